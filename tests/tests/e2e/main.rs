//! The whole, through the real engine. One binary, since each links all of mistral.rs.

mod batches;
mod config;
mod family;
mod mapped_serving;
mod mapper_fit;
mod mapper_fit_killed;
mod mapper_vector;
mod models_in_one_process;
mod real_model;
mod seam;
mod serving;
