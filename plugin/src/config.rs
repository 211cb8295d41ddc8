//! The `[steering]` table in mistral.rs's own configuration file.
//!
//! ```toml
//! [steering]
//! per_request = "replace"            # or "extend", "off": what a request's own steering may do
//! inline = false                     # whether requests may contain inline vectors
//!
//! [steering.vectors]
//! happy = "vectors/happy.toml"       # relative to the configuration file
//! calm = "vectors/calm.gguf"         # a control vector of the only model; of several:
//! # x = { file = "vec_layer_13.pt", layer = 13 }   # other programs' files, see `foreign`
//! # calm = { file = "vectors/calm.gguf", model = "HuggingFaceTB/SmolLM2-135M-Instruct" }
//!
//! [steering.maps]                    # for vectors that were found on another model
//! small-to-large = "maps/small-to-large.toml"
//!
//! [[steering.defaults]]              # applied to every request of a model
//! model = "HuggingFaceTB/SmolLM2-135M-Instruct"   # a model_id of [[models]]; may be absent if there is only one
//!
//! [[steering.defaults.vectors]]
//! vector = "happy"
//! map = "small-to-large"             # absent: the vector was found on this model
//! scale = 4.0
//! layers = [14]
//!
//! [[steering.bounds]]                # the bound of the offsets of a model, see `policy`
//! max_relative_scale = 0.5
//! excess = "reject"                  # or "clamp"
//!
//! [steering.admin]                   # see `config::admin`
//! token_env = "STEERMAP_TOKEN"
//! uploads = true
//!
//! [steering.sources.small]           # see `live`: models to find vectors on while the server runs
//! model = "models/small"
//!
//! [steering.reading]                 # what requests may read from the stream, see `policy`
//! states = false
//!
//! [steering.limits]                  # see `config::limits`; these are the defaults
//! body_bytes = 52428800
//! choices = 16
//! # prompt_bytes: absent, 16 for each token of the model's context, at least 65536
//!
//! [steering.shutdown]
//! seconds = 30                       # for running requests when a signal stops the server
//! ```
//!
//! Stock mistral.rs ignores the table, so the same file starts both servers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mistralrs_cli::{CliConfig, ServeConfig, load_cli_config};
use serde::Deserialize;
use steermap_extract::ModelSource;

use crate::policy::{Bound, BoundEntry, PerRequest, ReadPolicy};
use crate::spec::{Conflict, NormRule, SteeringSpec, VectorUse};
use crate::vector_source::{VectorEntry, VectorSources};
use crate::{Library, SteeringError, toml_reader, unknown_keys};
use admin::AdminTable;
use limits::LimitsTable;
use live::{LiveTable, SourceTable};

mod admin;
mod limits;
mod live;

pub(crate) use admin::is_loopback;
pub use admin::{AdminOptions, AdminToken};
pub use limits::Limits;
pub use live::LiveLimits;

/// A configuration file, read and checked as far as possible without other files.
pub struct Config {
    /// The file.
    pub path: PathBuf,
    /// mistral.rs's part, as mistral.rs reads it.
    pub engine: ServeConfig,
    /// The vectors, their paths made absolute or relative to the working folder.
    pub vectors: VectorSources,
    /// Paths of the maps, treated like those of the vectors.
    pub maps: BTreeMap<String, PathBuf>,
    /// The default spec of each model that has one.
    pub defaults: BTreeMap<String, DefaultSpec>,
    /// What a request's own steering may do.
    pub per_request: PerRequest,
    /// Whether requests may contain inline vectors.
    pub inline: bool,
    /// What requests may read from the stream.
    pub reading: ReadPolicy,
    /// The bound of each model that has one.
    pub bounds: BTreeMap<String, Bound>,
    /// Who may change the steering while the server runs.
    pub admin: AdminOptions,
    /// The models to find vectors on, in addition to the served ones.
    pub sources: BTreeMap<String, ModelSource>,
    /// Limits for finding vectors.
    pub live: LiveLimits,
    /// Limits of one request.
    pub limits: Limits,
    /// Whether the playground is served.
    pub playground: bool,
    /// How long running requests may go on after a signal stops the server.
    pub patience: Duration,
    /// A sentence for each setting that is allowed but probably a mistake.
    pub warnings: Vec<String>,
}

/// `[steering.shutdown]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shutdown {
    seconds: u64,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { seconds: 30 }
    }
}

/// The default spec of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct DefaultSpec {
    /// Its path in the file, ending with a dot, for messages.
    pub at: String,
    /// The spec.
    pub spec: SteeringSpec,
}

#[derive(Deserialize)]
struct SteeringFile {
    #[serde(default)]
    steering: SteeringTable,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SteeringTable {
    #[serde(default)]
    per_request: PerRequest,
    #[serde(default)]
    inline: bool,
    #[serde(default)]
    reading: ReadPolicy,
    #[serde(default)]
    bounds: Vec<BoundEntry>,
    #[serde(default)]
    vectors: BTreeMap<String, VectorEntry>,
    #[serde(default)]
    maps: BTreeMap<String, PathBuf>,
    #[serde(default)]
    defaults: Vec<DefaultEntry>,
    #[serde(default)]
    admin: AdminTable,
    #[serde(default)]
    sources: BTreeMap<String, SourceTable>,
    #[serde(default)]
    live: LiveTable,
    #[serde(default)]
    limits: LimitsTable,
    #[serde(default)]
    shutdown: Shutdown,
    playground: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DefaultEntry {
    model: Option<String>,
    #[serde(default)]
    vectors: Vec<VectorUse>,
    #[serde(default)]
    conflict: Conflict,
    #[serde(default)]
    norm: NormRule,
}

impl Config {
    /// Reads the configuration file at `path`.
    ///
    /// # Errors
    ///
    /// The file can't be read, mistral.rs refuses it, its command is not `serve`, or its `[steering]` table has an
    /// unknown key or a wrong value, or names a model or vector that does not exist.
    pub fn load(path: &Path) -> Result<Self, SteeringError> {
        let text = std::fs::read_to_string(path).map_err(|reason| SteeringError::Read {
            path: path.to_path_buf(),
            reason,
        })?;
        // mistral.rs reads first, so that its own errors are reported in its own words.
        let engine = match load_cli_config(path) {
            Ok(CliConfig::Serve(engine)) => engine,
            Ok(CliConfig::Run(_)) => {
                return Err(SteeringError::value("command", "\"run\"", "\"serve\"").within(path));
            }
            Err(error) => {
                let message = refused_by_type(&text).unwrap_or_else(|| format!("{error:#}"));
                return Err(SteeringError::Engine {
                    path: path.to_path_buf(),
                    message,
                });
            }
        };
        let SteeringFile { steering } = toml_reader::read(&text).map_err(|message| SteeringError::Toml {
            path: path.to_path_buf(),
            message,
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let models: Vec<&str> = engine.models.iter().map(|model| model.model_id.as_str()).collect();
        let vectors = VectorSources::resolve(steering.vectors, folder, &models).map_err(|error| error.within(path))?;
        let maps = steering.maps.into_iter();
        let maps: BTreeMap<String, PathBuf> = maps.map(|(name, file)| (name, folder.join(file))).collect();
        let defaults = defaults(steering.defaults, &models, &vectors, &maps).map_err(|error| error.within(path))?;
        let bounds = bounds(&steering.bounds, &models).map_err(|error| error.within(path))?;
        let admin = steering
            .admin
            .resolve(is_loopback(&engine.server.host), folder)
            .map_err(|error| error.within(path))?;
        let limits = steering.limits.resolve().map_err(|error| error.within(path))?;
        let sources = live::sources(steering.sources, &models).map_err(|error| error.within(path))?;
        let live = steering.live.resolve(!sources.is_empty());
        let live = live.map_err(|error| error.within(path))?;
        let warnings = warnings(&text, &engine, &admin);
        Ok(Self {
            path: path.to_path_buf(),
            engine,
            vectors,
            maps,
            defaults,
            per_request: steering.per_request,
            inline: steering.inline,
            reading: steering.reading,
            bounds,
            admin,
            sources,
            live,
            limits,
            playground: steering.playground.unwrap_or(true),
            patience: Duration::from_secs(steering.shutdown.seconds),
            warnings,
        })
    }

    /// Loads all maps that the file names, and all vectors except control vectors, which can only be loaded once their
    /// model is known: [`VectorSources::load_control`].
    ///
    /// # Errors
    ///
    /// A name or a file is invalid.
    pub fn library(&self) -> Result<Library, SteeringError> {
        let mut library = Library::default();
        let within = |error: SteeringError| error.within(&self.path);
        self.vectors.load(&mut library).map_err(within)?;
        for (name, file) in &self.maps {
            library.load_map(name, file).map_err(within)?;
        }
        Ok(library)
    }
}

/// What is wrong with the file `text` of a server, with the field, if a value has the wrong type. mistral.rs's reader does not name
/// the field: it looks at the command first.
fn refused_by_type(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Command {
        command: String,
    }
    match toml_reader::read::<Command>(text) {
        Ok(Command { command }) if command == "serve" => toml_reader::read::<ServeConfig>(text).err(),
        Ok(_) => None,
        Err(message) => Some(message),
    }
}

/// Warnings about settings in the file `text` that are allowed but probably mistakes.
fn warnings(text: &str, engine: &ServeConfig, admin: &AdminOptions) -> Vec<String> {
    let mut warnings = match text.parse() {
        Ok(document) => unknown_keys::of::<ServeConfig>(&document, &["command", "steering"]),
        // Can't happen: the same text was parsed before.
        Err(_) => Vec::new(),
    };
    let host = &engine.server.host;
    if admin.token.is_none() && !is_loopback(host) {
        warnings.push(format!(
            "server.host: {host:?} lets other machines reach the server, and there is no token: anyone who can reach it can use it \
             (host = \"127.0.0.1\" limits it to this machine; steering.admin.token_env or token_file protects changes)"
        ));
    }
    warnings
}

fn defaults(
    entries: Vec<DefaultEntry>,
    models: &[&str],
    vectors: &VectorSources,
    maps: &BTreeMap<String, PathBuf>,
) -> Result<BTreeMap<String, DefaultSpec>, SteeringError> {
    let mut defaults = BTreeMap::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let at = format!("steering.defaults[{index}].");
        let model = model_of(entry.model.as_deref(), models, &at)?;
        let spec = SteeringSpec {
            vectors: entry.vectors,
            conflict: entry.conflict,
            norm: entry.norm,
        };
        spec.validate(&at)?;
        for (i, used) in spec.vectors.iter().enumerate() {
            let field = |name: &str| format!("{at}vectors[{i}].{name}");
            if let Some(name) = used.vector.name() {
                is_named(&field("vector"), name, "vectors", &vectors.0)?;
            }
            if let Some(map) = &used.map {
                is_named(&field("map"), map, "maps", maps)?;
            }
            let tests = used.when.iter().flat_map(|when| when.tests_at(&field("when")));
            for (at, test) in tests {
                if let Some(name) = test.vector.name() {
                    is_named(&format!("{at}.vector"), name, "vectors", &vectors.0)?;
                }
                if let Some(map) = &test.map {
                    is_named(&format!("{at}.map"), map, "maps", maps)?;
                }
            }
        }
        let field = format!("{at}model");
        if defaults.insert(model.clone(), DefaultSpec { at, spec }).is_some() {
            return Err(SteeringError::value(
                field,
                format!("{model:?} twice"),
                "one default for each model",
            ));
        }
    }
    Ok(defaults)
}

fn bounds(entries: &[BoundEntry], models: &[&str]) -> Result<BTreeMap<String, Bound>, SteeringError> {
    let mut bounds = BTreeMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let at = format!("steering.bounds[{index}].");
        let model = model_of(entry.model.as_deref(), models, &at)?;
        if bounds.insert(model.clone(), entry.resolve(&at)?).is_some() {
            let found = format!("{model:?} twice");
            return Err(SteeringError::value(
                format!("{at}model"),
                found,
                "one bound for each model",
            ));
        }
    }
    Ok(bounds)
}

/// The model that a table names, or the only one.
fn model_of(named: Option<&str>, models: &[&str], at: &str) -> Result<String, SteeringError> {
    let wrong = |found: String, expected: String| Err(SteeringError::value(format!("{at}model"), found, expected));
    match (named, models) {
        (Some(model), models) if models.contains(&model) => Ok(model.to_string()),
        (Some(model), models) => {
            let expected = format!("a model_id of [[models]]: {}", models.join(", "));
            wrong(format!("{model:?}"), expected)
        }
        (None, [only]) => Ok(only.to_string()),
        (None, models) => {
            let expected = format!("one of the {} models: {}", models.len(), models.join(", "));
            wrong("nothing".to_string(), expected)
        }
    }
}

/// Checks that `name`, which a spec uses, is in the table.
fn is_named<T>(field: &str, name: &str, table: &str, files: &BTreeMap<String, T>) -> Result<(), SteeringError> {
    if files.contains_key(name) {
        return Ok(());
    }
    let known: Vec<_> = files.keys().map(String::as_str).collect();
    let known = if known.is_empty() {
        "the table has none".to_string()
    } else {
        known.join(", ")
    };
    let expected = format!("a name of [steering.{table}]: {known}");
    Err(SteeringError::value(field, format!("{name:?}"), expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGINE: &str = "command = \"serve\"\n[[models]]\nkind = \"text\"\nmodel_id = \"a/one\"\n";

    fn load(text: &str) -> Result<Config, SteeringError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mistralrs.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    fn error(steering: &str) -> String {
        load(&format!("{ENGINE}{steering}")).err().expect(steering).to_string()
    }

    #[test]
    fn paths_are_relative_to_the_file_and_the_only_model_needs_no_name() {
        let text = "[steering.vectors]\nhappy = \"v/happy.toml\"\n[[steering.defaults]]\n\
                    [[steering.defaults.vectors]]\nvector = \"happy\"\nscale = 2\nlayers = [1]\n";
        let config = load(&format!("{ENGINE}{text}")).unwrap();
        let folder = config.path.parent().unwrap();
        assert_eq!(config.vectors.0["happy"].path, folder.join("v/happy.toml"));
        assert_eq!(
            config.defaults["a/one"].spec,
            VectorUse::new("happy", 2.0).at_layers([1]).into()
        );
    }

    #[test]
    fn a_file_without_the_table_steers_nothing() {
        let config = load(ENGINE).unwrap();
        assert!(config.vectors.0.is_empty() && config.defaults.is_empty());
    }

    #[test]
    fn mistakes_name_file_and_field() {
        let vectors = "[steering.vectors]\nhappy = \"happy.toml\"\n";
        let unknown = error("[steering]\nvectorz = 1\n");
        assert!(
            unknown.contains("mistralrs.toml") && unknown.contains("vectorz"),
            "{unknown}"
        );
        let model = error("[[steering.defaults]]\nmodel = \"b/two\"\n");
        assert!(
            model.ends_with("steering.defaults[0].model: found \"b/two\", expected a model_id of [[models]]: a/one"),
            "{model}"
        );
        let name = error(&format!(
            "{vectors}[[steering.defaults]]\nvectors = [{{ vector = \"sad\", scale = 1 }}]\n"
        ));
        assert!(
            name.contains("steering.defaults[0].vectors[0].vector: found \"sad\""),
            "{name}"
        );
        assert!(name.ends_with("happy"), "{name}");
        let map = error(&format!(
            "{vectors}[[steering.defaults]]\nvectors = [{{ vector = \"happy\", scale = 1, map = \"m\" }}]\n"
        ));
        assert!(
            map.ends_with("vectors[0].map: found \"m\", expected a name of [steering.maps]: the table has none"),
            "{map}"
        );
        let scale = error(&format!(
            "{vectors}[[steering.defaults]]\nvectors = [{{ vector = \"happy\", scale = nan }}]\n"
        ));
        assert!(
            scale.contains("steering.defaults[0].vectors[0].scale: found NaN"),
            "{scale}"
        );
        let twice = error("[[steering.defaults]]\n[[steering.defaults]]\n");
        assert!(twice.contains("twice"), "{twice}");
    }

    #[test]
    fn what_may_not_be_meant_is_a_warning() {
        let open = load(ENGINE).unwrap().warnings;
        assert!(
            open.len() == 1 && open[0].starts_with("server.host: \"0.0.0.0\""),
            "{open:?}"
        );
        let typo = load(&format!("{ENGINE}[server]\nhots = \"127.0.0.1\"\n"))
            .unwrap()
            .warnings;
        assert!(typo.len() == 2 && typo[0].contains("`host`"), "{typo:?}");
        let closed = load(&format!("{ENGINE}[server]\nhost = \"127.0.0.1\"\n"))
            .unwrap()
            .warnings;
        assert_eq!(closed, Vec::<String>::new());
        let token = "[steering.admin]\ntoken_env = \"CARGO_PKG_NAME\"\n";
        assert_eq!(
            load(&format!("{ENGINE}{token}")).unwrap().warnings,
            Vec::<String>::new()
        );
    }

    #[test]
    fn bounds_are_of_a_model() {
        let bound = "[[steering.bounds]]\nmax_relative_scale = 0.5\n";
        let config = load(&format!("{ENGINE}[steering]\nper_request = \"extend\"\n{bound}")).unwrap();
        assert_eq!(config.bounds["a/one"].max_relative_scale, 0.5);
        assert_eq!(config.per_request, PerRequest::Extend);
        let twice = error(&format!("{bound}{bound}"));
        assert!(
            twice.contains("steering.bounds[1].model") && twice.contains("twice"),
            "{twice}"
        );
        let zero = error("[[steering.bounds]]\nmax_relative_scale = 0\n");
        assert!(
            zero.contains("steering.bounds[0].max_relative_scale: found 0"),
            "{zero}"
        );
        let word = error("[steering]\nper_request = \"maybe\"\n");
        assert!(
            word.contains("per_request") && word.contains("`off`, `extend`, `replace`"),
            "{word}"
        );
    }

    #[test]
    fn two_models_need_names() {
        let two = format!("{ENGINE}[[models]]\nkind = \"text\"\nmodel_id = \"b/two\"\n[[steering.defaults]]\n");
        let message = load(&two).err().unwrap().to_string();
        assert!(
            message.contains("found nothing, expected one of the 2 models: a/one, b/two"),
            "{message}"
        );
    }

    #[test]
    fn the_engines_mistakes_are_told_in_its_words() {
        let none = load("command = \"serve\"\n").err().unwrap().to_string();
        assert!(none.contains("at least one model"), "{none}");
        let kind = load("command = \"serve\"\n[[models]]\nkind = \"txt\"\nmodel_id = \"x\"\n")
            .err()
            .unwrap();
        assert!(kind.to_string().contains("txt"), "{kind}");
        let run = load(&ENGINE.replace("serve", "run")).err().unwrap().to_string();
        assert!(run.contains("command: found \"run\", expected \"serve\""), "{run}");
        let missing = Config::load(Path::new("nowhere.toml")).err().unwrap().to_string();
        assert!(missing.starts_with("nowhere.toml: can't be read"), "{missing}");
    }
}
