//! Traffic for a running server: requests with steering of every kind, asked alone and in a storm, and what comes back.
//!
//! | module | role |
//! | --- | --- |
//! | [`client`] | HTTP: one connection's requests and answers, whole, streamed, or given up midway |
//! | [`models`] | the models that are served, and the vectors of each |
//! | [`served`] | the folder and the configuration of the server that the traffic is for |
//! | [`prompts`] | prompts cut out of the family's stories, with their tokens |
//! | [`specs`] | random values of the field `steering` that a server must accept |
//! | [`exchanges`] | prompts, specs, lengths, ways to ask and arrival times: what is asked |
//! | [`storm`] | asking one at a time, and many at once |
//! | [`compare`] | an answer in the storm against the answer that the request gets alone |
//! | [`isolation`] | the whole of it: alone, then in storms |
//! | [`prefix_cache`] | the engine's own figures of its prefix cache, from its log |
//! | [`continuations`] | prompts that go on from the answers to others |
//! | [`hostile`] | requests that try to harm the server or the others on it |
//! | [`chaos`], [`watch`] | hostile requests beside ordinary ones, and what the server says and holds meanwhile |
//! | [`load`], [`memory`] | minutes of everything at once, and what the server's memory does meanwhile |

pub mod chaos;
pub mod client;
pub mod compare;
pub mod continuations;
pub mod exchanges;
pub mod hostile;
pub mod isolation;
pub mod load;
pub mod memory;
pub mod models;
pub mod prefix_cache;
pub mod prompts;
pub mod served;
pub mod specs;
pub mod storm;
pub mod watch;
