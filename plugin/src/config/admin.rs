//! The table `[steering.admin]`: who may use the admin routes, and what for.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use steermap_maps::digest;
use subtle::ConstantTimeEq;

use crate::SteeringError;

/// The default for the most bytes of an upload: 64 MiB, nine times a vector of 100 layers of 16,384.
const DEFAULT_UPLOAD_BYTES: usize = 64 << 20;

/// The default for the most vectors.
const DEFAULT_VECTORS: usize = 1024;

/// The default for the most bytes of numbers in all uploaded vectors together: 1 GiB, 150 of the largest.
const DEFAULT_VECTORS_BYTES: usize = 1 << 30;

/// A bearer token, kept as its hash.
#[derive(Clone)]
pub struct AdminToken {
    sha256: String,
}

impl AdminToken {
    /// The token `text`, without the white space around it. `at` names where it comes from, for messages.
    ///
    /// # Errors
    ///
    /// The token is empty, or has characters other than visible ASCII, which a header can't carry.
    pub fn new(text: &str, at: &str) -> Result<Self, SteeringError> {
        let token = text.trim();
        if token.is_empty() {
            return Err(SteeringError::value(at, "an empty token", "at least one character"));
        }
        // The message must not reveal the token.
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SteeringError::value(
                at,
                "a token with characters other than visible ASCII",
                "letters, digits and signs, without spaces between them",
            ));
        }
        let sha256 = digest::sha256(token.as_bytes());
        Ok(Self { sha256 })
    }

    /// Whether `text` is the token. Compares hashes, so the time taken reveals neither length nor content.
    pub(crate) fn is(&self, text: &[u8]) -> bool {
        let sha256 = digest::sha256(text);
        self.sha256.as_bytes().ct_eq(sha256.as_bytes()).into()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What the admin routes allow, and to whom.
#[derive(Clone, Debug)]
pub struct AdminOptions {
    /// The token that a request must bear; `None`: the routes exist only with `open_on_loopback`.
    pub token: Option<AdminToken>,
    /// Whether programs on this machine, and pages of this server, may use them without a token. Only for a server that
    /// listens on loopback alone.
    pub open_on_loopback: bool,
    /// Whether the server listens on loopback alone.
    pub loopback: bool,
    /// Whether vectors may be uploaded.
    pub uploads: bool,
    /// The most bytes of an upload's body.
    pub max_upload_bytes: usize,
    /// The most vectors that there may be after an upload.
    pub max_vectors: usize,
    /// The most bytes of numbers that all uploaded vectors may have together.
    pub max_vectors_bytes: usize,
    /// The folder that keeps uploads and defaults across restarts of the server.
    pub state: Option<PathBuf>,
}

impl Default for AdminOptions {
    /// The options for an absent `[steering.admin]`, on a server that others can reach.
    fn default() -> Self {
        Self {
            token: None,
            open_on_loopback: false,
            loopback: false,
            uploads: false,
            max_upload_bytes: DEFAULT_UPLOAD_BYTES,
            max_vectors: DEFAULT_VECTORS,
            max_vectors_bytes: DEFAULT_VECTORS_BYTES,
            state: None,
        }
    }
}

impl AdminOptions {
    /// A sentence for the log that says who may do what.
    pub fn describe(&self) -> String {
        let to = match (&self.token, self.open_on_loopback) {
            (Some(_), _) => "open to whoever has the token",
            (None, true) => "open to programs on this machine, without a token",
            (None, false) => {
                return "Admin routes and mistral.rs's control routes are closed: there is no token".to_string();
            }
        };
        let uploads = if self.uploads { "with" } else { "without" };
        format!("Admin routes and mistral.rs's control routes are {to}, {uploads} uploads")
    }
}

/// `[steering.admin]` of the configuration file.
///
/// ```toml
/// [steering.admin]
/// token_env = "STEERING_TOKEN"    # or token_file = "token.txt", relative to the configuration file
/// open_on_loopback = true         # absent: false; without a token, for programs on this machine
/// uploads = true                  # absent: false
/// max_upload_bytes = 67108864     # absent: 64 MiB
/// max_vectors = 1024              # absent: 1024
/// max_vectors_bytes = 1073741824  # absent: 1 GiB, of the numbers of all uploaded vectors
/// state = "state"                 # a folder, relative to the configuration file; absent: uploads and defaults are
/// lost on exit
/// ```
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminTable {
    token_env: Option<String>,
    token_file: Option<PathBuf>,
    #[serde(default)]
    open_on_loopback: bool,
    #[serde(default)]
    uploads: bool,
    max_upload_bytes: Option<usize>,
    max_vectors: Option<usize>,
    max_vectors_bytes: Option<usize>,
    state: Option<PathBuf>,
}

impl AdminTable {
    /// The options of the table. Reads the token now, once. Paths are relative to `folder`.
    ///
    /// # Errors
    ///
    /// Both `token_env` and `token_file` are set, the token can't be read or is invalid, `open_on_loopback` is set for
    /// a server that others can reach, or a limit is 0.
    pub fn resolve(self, loopback: bool, folder: &Path) -> Result<AdminOptions, SteeringError> {
        let token = match (self.token_env, self.token_file) {
            (None, None) => None,
            (Some(name), None) => Some(token_from_env(&name)?),
            (None, Some(file)) => Some(token_from_file(&folder.join(file))?),
            (Some(_), Some(_)) => {
                return Err(SteeringError::value(
                    "steering.admin.token_file",
                    "this key beside token_env",
                    "one of the two",
                ));
            }
        };
        if self.open_on_loopback && token.is_none() && !loopback {
            return Err(SteeringError::value(
                "steering.admin.open_on_loopback",
                "true for a server that others can reach",
                "server.host = \"127.0.0.1\", or a token",
            ));
        }
        for (key, limit) in [
            ("max_upload_bytes", self.max_upload_bytes),
            ("max_vectors", self.max_vectors),
            ("max_vectors_bytes", self.max_vectors_bytes),
        ] {
            if limit == Some(0) {
                return Err(SteeringError::value(
                    format!("steering.admin.{key}"),
                    "0",
                    "at least 1; uploads = false allows none",
                ));
            }
        }
        let default = AdminOptions::default();
        Ok(AdminOptions {
            token,
            open_on_loopback: self.open_on_loopback,
            loopback,
            uploads: self.uploads,
            max_upload_bytes: self.max_upload_bytes.unwrap_or(default.max_upload_bytes),
            max_vectors: self.max_vectors.unwrap_or(default.max_vectors),
            max_vectors_bytes: self.max_vectors_bytes.unwrap_or(default.max_vectors_bytes),
            state: self.state.map(|state| folder.join(state)),
        })
    }
}

fn token_from_env(name: &str) -> Result<AdminToken, SteeringError> {
    let at = "steering.admin.token_env";
    match std::env::var(name) {
        Ok(text) => AdminToken::new(&text, &format!("{at} {name:?}")),
        Err(error) => Err(SteeringError::value(
            at,
            format!("{name:?}: {error}"),
            "the name of an environment variable that holds the token",
        )),
    }
}

fn token_from_file(path: &Path) -> Result<AdminToken, SteeringError> {
    let at = "steering.admin.token_file";
    match std::fs::read_to_string(path) {
        Ok(text) => AdminToken::new(&text, &format!("{at} {:?}", path.display().to_string())),
        Err(error) => Err(SteeringError::value(
            at,
            format!("{:?}: {error}", path.display().to_string()),
            "a text file that holds the token",
        )),
    }
}

/// Whether `host`, a name or an address, is a loopback address of this machine.
pub fn is_loopback(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    match bare.parse::<std::net::IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => bare.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> AdminTable {
        toml::from_str(text).unwrap()
    }

    fn error(text: &str, folder: &Path) -> String {
        table(text).resolve(true, folder).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_table_allows_no_uploads() {
        let options = table("").resolve(true, Path::new("")).unwrap();
        assert!(options.token.is_none() && !options.open_on_loopback && !options.uploads);
        assert_eq!((options.max_upload_bytes, options.max_vectors), (64 << 20, 1024));
        assert!(toml::from_str::<AdminTable>("upload = true").is_err());
        assert!(toml::from_str::<AdminTable>("max_vectors = -1").is_err());
    }

    #[test]
    fn only_a_server_on_loopback_can_be_open() {
        let open = || table("open_on_loopback = true");
        assert!(open().resolve(true, Path::new("")).unwrap().open_on_loopback);
        let refused = open().resolve(false, Path::new("")).unwrap_err().to_string();
        assert!(
            refused.starts_with("steering.admin.open_on_loopback: found true for a server that others can reach"),
            "{refused}"
        );
    }

    #[test]
    fn tokens_come_from_a_file_or_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "  s3cret\n").unwrap();
        let options = table("token_file = \"token\"\nuploads = true\nmax_vectors = 2")
            .resolve(false, folder.path())
            .unwrap();
        let token = options.token.unwrap();
        assert!(token.is(b"s3cret") && !token.is(b"s3cre") && !token.is(b"") && !token.is(b"s3cret\n"));
        assert!(options.uploads && options.max_vectors == 2 && !options.open_on_loopback);
        assert_eq!(format!("{token:?}"), "Token(..)");

        // Cargo sets this one when it runs tests.
        let options = table("token_env = \"CARGO_PKG_NAME\"")
            .resolve(true, folder.path())
            .unwrap();
        assert!(options.token.unwrap().is(env!("CARGO_PKG_NAME").as_bytes()));
    }

    #[test]
    fn an_invalid_token_is_an_error_that_names_its_key() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("empty"), " \n").unwrap();
        std::fs::write(folder.path().join("two"), "a b").unwrap();
        let found = error("token_file = \"empty\"", folder.path());
        assert!(
            found.contains("token_file") && found.contains("found an empty token"),
            "{found}"
        );
        let found = error("token_file = \"two\"", folder.path());
        assert!(found.contains("visible ASCII") && !found.contains("a b"), "{found}");
        let found = error("token_file = \"none\"", folder.path());
        assert!(found.starts_with("steering.admin.token_file: found"), "{found}");
        let found = error("token_env = \"STEERMAP_NO_SUCH_VARIABLE\"", folder.path());
        assert!(
            found.starts_with("steering.admin.token_env: found \"STEERMAP_NO_SUCH_VARIABLE\""),
            "{found}"
        );
        let found = error("token_env = \"A\"\ntoken_file = \"B\"", folder.path());
        assert!(found.ends_with("expected one of the two"), "{found}");
        assert!(error("max_vectors = 0", folder.path()).contains("max_vectors: found 0"));
        assert!(error("max_vectors_bytes = 0", folder.path()).contains("max_vectors_bytes: found 0"));
        assert!(error("max_upload_bytes = 0", folder.path()).contains("max_upload_bytes: found 0"));
    }

    #[test]
    fn this_machine_has_several_names() {
        for host in [
            "localhost",
            "LocalHost",
            "127.0.0.1",
            "127.8.0.1",
            "::1",
            "[::1]",
            "::ffff:127.0.0.1",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "0.0.0.0",
            "::",
            "10.0.0.1",
            "localhost.example.org",
            "example.org",
            "",
            "127.0.0.1.example.org",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
