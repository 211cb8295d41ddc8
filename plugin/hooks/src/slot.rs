//! The place in a loaded model where a hook is installed.

use std::fmt;
use std::sync::{Arc, RwLock};

use crate::seam::{self, Active};
use crate::{Admission, BatchView, Prompt, RequestState, ResidualHook, Row, StreamInfo};

/// Which streams of a model a hook can read. Declared by the model beside its calls of the seam.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// The stream between blocks: after every block but the last.
    BetweenBlocks,
    /// The stream after every block.
    EveryBlock,
    /// Nothing, for the reason given.
    Unsupported(&'static str),
}

/// Why a hook could not be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstallError {
    /// This model has no stream that can be hooked.
    Unsupported(String),
    /// The hook wants a layer that the model does not have.
    NoSuchLayer {
        /// The layer.
        layer: usize,
        /// Number of layers of the model.
        num_layers: usize,
    },
    /// The hook wants the stream after the last block, which this architecture does not pass to the seam.
    LastBlock {
        /// The layer, which is the model's last.
        layer: usize,
    },
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(reason) => {
                write!(f, "this model's residual stream can't be hooked: {reason}")
            }
            Self::NoSuchLayer { layer, num_layers } => write!(
                f,
                "layer {layer} does not exist: the model has layers 0 to {}",
                num_layers.saturating_sub(1)
            ),
            Self::LastBlock { layer } => write!(
                f,
                "layer {layer} is the last block, and the stream after the last block can't be hooked in this \
                 architecture: the layers before it can"
            ),
        }
    }
}

impl std::error::Error for InstallError {}

/// The place of one loaded model's hook. Clones share the slot.
///
/// Installing and removing take effect with the next forward pass; a running pass keeps its hook.
#[derive(Clone)]
pub struct HookSlot {
    state: Arc<RwLock<SlotState>>,
}

struct SlotState {
    stream: Result<StreamInfo, String>,
    installed: Option<Installed>,
}

/// An installed hook, with the data needed to call it.
#[derive(Clone)]
struct Installed {
    hook: Arc<dyn ResidualHook>,
    wanted: Arc<[bool]>,
}

/// A claimed request, with the hook that will admit its sequences.
pub struct Claim {
    hook: Option<Arc<dyn ResidualHook>>,
    state: Option<RequestState>,
}

impl Claim {
    /// Admits a sequence with this prompt.
    ///
    /// # Errors
    ///
    /// The hook's reason to refuse it.
    pub fn admit(&self, prompt: &Prompt<'_>) -> Result<Admission, String> {
        match &self.hook {
            Some(hook) => hook.admit(self.state.as_ref(), prompt),
            None => Ok(Admission::default()),
        }
    }

    /// Whether [`admit`](Self::admit) needs the turns of a chat.
    pub fn wants_turns(&self) -> bool {
        let hook = self.hook.as_ref();
        hook.is_some_and(|hook| hook.wants_turns(self.state.as_ref()))
    }
}

impl Default for HookSlot {
    /// The slot of a model without a residual stream.
    fn default() -> Self {
        Self::new(Support::Unsupported("models of this kind or format have no seam"), 0, 0)
    }
}

impl fmt::Debug for HookSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookSlot")
            .field("stream", &self.stream())
            .field("installed", &self.is_installed())
            .finish()
    }
}

impl HookSlot {
    /// The slot of a model with `num_layers` blocks and a stream of width `hidden_size`.
    pub fn new(support: Support, num_layers: usize, hidden_size: usize) -> Self {
        let stream = match support {
            Support::Unsupported(reason) => Err(reason.to_string()),
            Support::BetweenBlocks | Support::EveryBlock => Ok(StreamInfo {
                num_layers,
                hidden_size,
                last_block: support == Support::EveryBlock,
            }),
        };
        Self {
            state: Arc::new(RwLock::new(SlotState {
                stream,
                installed: None,
            })),
        }
    }

    /// Disables the slot, for `reason`. For code that runs a model in a way that hooks do not support.
    pub fn refuse(&self, reason: &str) {
        let mut state = self.write();
        state.stream = Err(reason.to_string());
        state.installed = None;
    }

    /// The stream that a hook can read.
    ///
    /// # Errors
    ///
    /// [`InstallError::Unsupported`] with the reason.
    pub fn stream(&self) -> Result<StreamInfo, InstallError> {
        self.read().stream.clone().map_err(InstallError::Unsupported)
    }

    /// Whether a hook is installed.
    pub fn is_installed(&self) -> bool {
        self.read().installed.is_some()
    }

    /// Installs `hook`, replacing the previous one.
    ///
    /// # Errors
    ///
    /// The model can't be hooked, or not at a layer that the hook wants. The slot is then unchanged.
    pub fn install(&self, hook: Arc<dyn ResidualHook>) -> Result<(), InstallError> {
        let mut state = self.write();
        let stream = state.stream.clone().map_err(InstallError::Unsupported)?;
        let mut wanted = vec![false; stream.num_layers];
        for layer in hook.layers() {
            let slot = wanted.get_mut(layer).ok_or(InstallError::NoSuchLayer {
                layer,
                num_layers: stream.num_layers,
            })?;
            if layer + 1 == stream.num_layers && !stream.last_block {
                return Err(InstallError::LastBlock { layer });
            }
            *slot = true;
        }
        state.installed = Some(Installed {
            hook,
            wanted: wanted.into(),
        });
        Ok(())
    }

    /// Removes the hook, if there is one.
    pub fn remove(&self) {
        self.write().installed = None;
    }

    /// Installs the hook of `other` here: for a model that was unloaded and is loaded again.
    ///
    /// # Errors
    ///
    /// As [`install`](Self::install), if the two models differ.
    pub fn adopt(&self, other: &Self) -> Result<(), InstallError> {
        let hook = other.read().installed.as_ref().map(|i| i.hook.clone());
        match hook {
            Some(hook) => self.install(hook),
            None => Ok(()),
        }
    }

    /// Claims the request `request`; called once when the engine receives it.
    ///
    /// # Errors
    ///
    /// The hook's reason to refuse the request.
    pub fn claim(&self, request: usize) -> Result<Claim, String> {
        let hook = self.read().installed.as_ref().map(|i| i.hook.clone());
        let state = match &hook {
            Some(hook) => hook.claim(request)?,
            None => None,
        };
        Ok(Claim { hook, state })
    }

    /// Runs `forward`, one forward pass of this slot's model on the calling thread, with the hook active. `rows`
    /// returns the rows of the pass; it is not called if no hook is installed.
    pub fn scope<T>(&self, rows: impl FnOnce() -> Vec<Row>, forward: impl FnOnce() -> T) -> T {
        let active = {
            let state = self.read();
            match (&state.installed, &state.stream) {
                (Some(installed), Ok(stream)) => Some((installed.clone(), *stream)),
                _ => None,
            }
        };
        let active = active.map(|(Installed { hook, wanted }, stream)| Active {
            hook,
            wanted,
            stream,
            batch: BatchView::new(rows()),
        });
        seam::with(active, forward)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, SlotState> {
        // Only `ResidualHook::layers` can panic under the lock, and it changes nothing here.
        self.state.read().unwrap_or_else(|e| e.into_inner())
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, SlotState> {
        self.state.write().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Result, Tensor};

    use super::*;

    struct Wants(Vec<usize>);

    impl ResidualHook for Wants {
        fn layers(&self) -> Vec<usize> {
            self.0.clone()
        }
        fn after_block(&self, _: usize, _: &Tensor, _: &BatchView) -> Result<Option<Tensor>> {
            Ok(None)
        }
        fn claim(&self, request: usize) -> std::result::Result<Option<RequestState>, String> {
            match request {
                0 => Err("not that one".to_string()),
                _ => Ok(Some(Arc::new(request))),
            }
        }
        fn wants_turns(&self, claimed: Option<&RequestState>) -> bool {
            claimed.and_then(|state| state.downcast_ref::<usize>()) == Some(&7)
        }
        fn admit(&self, claimed: Option<&RequestState>, prompt: &Prompt<'_>) -> std::result::Result<Admission, String> {
            let request = claimed.and_then(|state| state.downcast_ref::<usize>());
            let salt = request.ok_or("no state")? + 100 * prompt.tokens.len();
            Ok(Admission {
                salts: [(0, salt as u64)].into(),
                ..Admission::default()
            })
        }
    }

    /// The first salt that a prompt is admitted with.
    fn salt(claim: &Claim, prompt: &[u32]) -> Option<u64> {
        let admitted = claim.admit(&Prompt::text(prompt)).unwrap();
        admitted.salts.first().map(|(_, salt)| *salt)
    }

    fn wants(layers: &[usize]) -> Arc<Wants> {
        Arc::new(Wants(layers.to_vec()))
    }

    #[test]
    fn a_layer_that_does_not_exist_is_refused() {
        let slot = HookSlot::new(Support::EveryBlock, 4, 8);
        let error = slot.install(wants(&[0, 4])).unwrap_err();
        assert_eq!(error.to_string(), "layer 4 does not exist: the model has layers 0 to 3");
        assert!(!slot.is_installed());
    }

    #[test]
    fn the_last_block_is_refused_where_the_architecture_does_not_hand_it_over() {
        let slot = HookSlot::new(Support::BetweenBlocks, 4, 8);
        assert_eq!(slot.install(wants(&[3])), Err(InstallError::LastBlock { layer: 3 }));
        assert_eq!(slot.install(wants(&[2])), Ok(()));
        let slot = HookSlot::new(Support::EveryBlock, 4, 8);
        assert_eq!(slot.install(wants(&[3])), Ok(()));
    }

    #[test]
    fn an_unsupported_model_says_why() {
        let slot = HookSlot::new(Support::Unsupported("its stream has four lanes"), 4, 8);
        assert_eq!(
            slot.install(wants(&[0])).unwrap_err().to_string(),
            "this model's residual stream can't be hooked: its stream has four lanes"
        );
        let slot = HookSlot::new(Support::EveryBlock, 4, 8);
        slot.install(wants(&[0])).unwrap();
        slot.refuse("two models in one step");
        assert!(!slot.is_installed());
        assert!(slot.stream().is_err());
        assert!(HookSlot::default().install(wants(&[])).is_err());
    }

    #[test]
    fn a_failed_install_leaves_the_old_hook() {
        let slot = HookSlot::new(Support::EveryBlock, 4, 8);
        slot.install(wants(&[1])).unwrap();
        slot.install(wants(&[9])).unwrap_err();
        assert!(slot.is_installed());
        assert_eq!(salt(&slot.claim(5).unwrap(), &[1]), Some(105));
    }

    #[test]
    fn a_request_keeps_the_hook_that_it_was_claimed_under() {
        let slot = HookSlot::new(Support::EveryBlock, 4, 8);
        assert_eq!(salt(&slot.claim(5).unwrap(), &[1]), None);
        slot.install(wants(&[1])).unwrap();
        assert_eq!(slot.claim(0).err().unwrap(), "not that one");
        let claim = slot.claim(7).unwrap();
        let other = slot.claim(8).unwrap();
        slot.remove();
        assert_eq!(salt(&claim, &[1, 2]), Some(207));
        assert!(claim.wants_turns() && !other.wants_turns());
        let unhooked = slot.claim(7).unwrap();
        assert_eq!(salt(&unhooked, &[1, 2]), None);
        assert!(!unhooked.wants_turns());
    }

    #[test]
    fn a_reloaded_model_keeps_its_hook() {
        let old = HookSlot::new(Support::EveryBlock, 4, 8);
        let new = HookSlot::new(Support::EveryBlock, 4, 8);
        new.adopt(&old).unwrap();
        assert!(!new.is_installed());
        old.install(wants(&[3])).unwrap();
        new.adopt(&old).unwrap();
        assert!(new.is_installed());
        let smaller = HookSlot::new(Support::EveryBlock, 2, 8);
        assert!(smaller.adopt(&old).is_err());
    }
}
