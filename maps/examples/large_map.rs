//! Writes, verifies, loads and applies a map of random numbers that is larger than the memory it takes, and says how
//! long that took and how much memory. Fails if the process has ever had as much resident as the map is large.
//!
//!     cargo run --release -p steermap-maps --example large_map -- --pairs 24 --dtype f32 --folder target
//!
//! Without arguments: 24 pairs from a stream of 4096 to one of 8192 in f32, 3 GiB, in a temporary folder.

#[path = "../tests/synthetic/mod.rs"]
mod synthetic;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use steermap_maps::{FloatDtype, MapFile, MapWriter, OffsetRule, describe};
use synthetic::{Sizes, header, pair, peak_memory, vector};

struct Args {
    sizes: Sizes,
    dtype: FloatDtype,
    folder: PathBuf,
}

fn main() -> ExitCode {
    match args().and_then(|args| run(&args)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("memory: found more at peak than the map's size, expected less");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn args() -> Result<Args, Box<dyn Error>> {
    let mut args = Args {
        sizes: Sizes {
            source: 4096,
            target: 8192,
            pairs: 24,
            rank: None,
        },
        dtype: FloatDtype::F32,
        folder: std::env::temp_dir(),
    };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let value = given
            .next()
            .ok_or_else(|| format!("{name}: found nothing, expected a value"))?;
        let number = || {
            value
                .parse()
                .map_err(|_| format!("{name}: found {value:?}, expected a whole number"))
        };
        match name.as_str() {
            "--source" => args.sizes.source = number()?,
            "--target" => args.sizes.target = number()?,
            "--pairs" => args.sizes.pairs = number()?,
            "--rank" => args.sizes.rank = Some(number()?),
            "--dtype" => args.dtype = value.parse()?,
            "--folder" => args.folder = value.into(),
            _ => {
                let known = "--source, --target, --pairs, --rank, --dtype or --folder";
                return Err(format!("found {name:?}, expected {known}").into());
            }
        }
    }
    Ok(args)
}

/// Whether there was less memory in use than the map has bytes.
fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let sizes = args.sizes;
    let folder = tempfile::tempdir_in(&args.folder)?;
    let path = folder.path().join("map.toml");

    let begin = Instant::now();
    let mut making = 0.0;
    let mut writer = MapWriter::create(&path, header(sizes), sizes.pairs)?.with_dtype(args.dtype);
    for index in 0..sizes.pairs {
        let begin = Instant::now();
        let pair = pair(sizes, index);
        making += begin.elapsed().as_secs_f64();
        writer.push(&pair)?;
    }
    let bytes: u64 = writer.finish()?.pairs().iter().map(|pair| pair.map.bytes()).sum();
    println!(
        "a map of {} pairs, {} to {}, {}: {:.2} GiB",
        sizes.pairs,
        sizes.source,
        sizes.target,
        args.dtype,
        gib(bytes)
    );
    say("write", begin.elapsed().as_secs_f64() - making);

    let begin = Instant::now();
    let map = MapFile::load(&path)?;
    say("load", begin.elapsed().as_secs_f64());

    let begin = Instant::now();
    map.verify()?;
    let lines = describe::map(&map).lines().count();
    say("inspect", begin.elapsed().as_secs_f64());
    println!("           {lines} lines");

    let vector = vector(sizes);
    let begin = Instant::now();
    let map = MapFile::load(&path)?;
    let mapped = map.apply(&vector, OffsetRule::Linear, true)?;
    say("apply", begin.elapsed().as_secs_f64());
    let begin = Instant::now();
    let again = map.apply(&vector, OffsetRule::Linear, true)?;
    say("again", begin.elapsed().as_secs_f64());
    if mapped.layers != again.layers || mapped.layers.len() != sizes.pairs {
        return Err("the directions differ from one time to the next".into());
    }
    Ok(peak_memory().is_none_or(|peak| peak < bytes))
}

fn say(what: &str, seconds: f64) {
    let peak = peak_memory().map_or_else(String::new, |peak| format!(", peak so far {:.2} GiB", gib(peak)));
    println!("  {what:8} {seconds:8.3} s{peak}");
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}
