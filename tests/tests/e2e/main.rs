//! The whole, through the real engine. One binary, since each links all of mistral.rs.

mod bad_requests;
mod batches;
mod chaos;
mod clients;
mod config;
mod eval;
mod eval_runs;
mod family;
mod gguf_interop;
mod images;
mod isolation;
mod mapped_serving;
mod mapper_fit;
mod mapper_fit_killed;
mod mapper_vector;
mod models_in_one_process;
mod no_harm;
mod operator;
mod policy;
mod real_model;
mod requests;
mod routes;
mod seam;
mod serving;
mod state;
mod windows;
