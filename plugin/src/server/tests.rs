//! Everything through the whole router, around handlers that answer as mistral.rs's do.

mod admin;
mod bad_requests;
mod requests;
mod testing;
