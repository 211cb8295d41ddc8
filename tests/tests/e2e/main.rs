//! The whole, through the real engine. One binary, since each links all of mistral.rs.

mod batches;
mod config;
mod mapper_vector;
mod models_in_one_process;
mod real_model;
mod seam;
mod serving;
