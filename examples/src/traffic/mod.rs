//! Traffic for a running server: requests with steering of every kind, sent alone and in a storm, and checks of the
//! answers.
//!
//! | module | role |
//! | --- | --- |
//! | [`client`] | HTTP: one connection's requests and answers, whole, streamed, or cancelled |
//! | [`models`] | the models that are served, and the vectors of each |
//! | [`served`] | the folder and the configuration of the server that the traffic is for |
//! | [`prompts`] | prompts cut out of the family's stories, with their tokens |
//! | [`specs`] | random values of the field `steering` that a server must accept |
//! | [`exchanges`] | ordinary requests: prompts, specs, lengths, ways of sending and arrival times |
//! | [`storm`] | sending requests one at a time, and many at once |
//! | [`compare`] | comparison of an answer in the storm with the one that the request gets alone |
//! | [`isolation`] | all requests alone, then in storms |
//! | [`prefix_cache`] | the engine's own figures of its prefix cache, from its log |
//! | [`continuations`] | prompts that continue from answers to others |
//! | [`hostile`] | requests that try to harm the server or other requests |
//! | [`chaos`], [`watch`] | hostile requests beside ordinary ones, and the server's log and memory meanwhile |
//! | [`load`] | minutes of mixed load, and the server's memory meanwhile |

pub mod chaos;
pub mod client;
pub mod compare;
pub mod continuations;
pub mod exchanges;
pub mod hostile;
pub mod isolation;
pub mod load;
pub mod models;
pub mod prefix_cache;
pub mod prompts;
pub mod served;
pub mod specs;
pub mod storm;
pub mod watch;
