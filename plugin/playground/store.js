// A small store: one object, replaced at each change, and listeners to parts of it.

export function createStore(initial) {
  let state = initial;
  const listeners = new Set();

  return {
    get: () => state,

    // Takes the changed keys, or a function from the state to them. Listeners run after the change, once each.
    set(change) {
      const patch = typeof change === "function" ? change(state) : change;
      state = { ...state, ...patch };
      for (const listener of [...listeners]) listener();
    },

    // Calls `listener` with the selected part now, and whenever that part changes.
    subscribe(select, listener) {
      let seen = select(state);
      const check = () => {
        const next = select(state);
        if (Object.is(next, seen)) return;
        seen = next;
        listener(next);
      };
      listeners.add(check);
      listener(seen);
      return () => listeners.delete(check);
    },
  };
}
