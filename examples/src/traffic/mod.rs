//! Traffic for a running server: requests with steering of every kind, asked alone and in a storm, and what comes back.
//!
//! | module | role |
//! | --- | --- |
//! | [`client`] | HTTP: one connection's requests and answers, whole, streamed, or given up midway |
//! | [`served`] | the folder and the configuration of the server that the traffic is for |
//! | [`prompts`] | prompts cut out of the family's stories, with their tokens |
//! | [`specs`] | random values of the field `steering` that a server must accept |
//! | [`exchanges`] | prompts, specs, lengths, ways to ask and arrival times: what is asked |
//! | [`storm`] | asking one at a time, and many at once |
//! | [`compare`] | an answer in the storm against the answer that the request gets alone |
//! | [`isolation`] | the whole of it: alone, then in storms |
//! | [`prefix_cache`] | the engine's own figures of its prefix cache, from its log |
//! | [`load`], [`memory`] | minutes of everything at once, and what the server's memory does meanwhile |

pub mod client;
pub mod compare;
pub mod exchanges;
pub mod isolation;
pub mod load;
pub mod memory;
pub mod prefix_cache;
pub mod prompts;
pub mod served;
pub mod specs;
pub mod storm;
