//! The pages of the documentation, tested as a reader uses them: the marked blocks of a page are run, in their order.
//!
//! The info string of a block determines how it is tested:
//!
//! | info string | test |
//! | --- | --- |
//! | `bash,run` | run by bash; later blocks have the variables that it exports |
//! | `python,run` | run by an interpreter with the packages of `tests/clients` |
//! | `bash,server` | started; the test waits until the server is healthy, and stops it before the next server or at the end of the page |
//! | `toml,file=PATH` (or any other language) | written to that file |
//! | `text,shows` | the output of the block before it must contain these lines in this order; `…` stands for any text, and numbers may differ slightly |
//! | `bash,norun` | not run; needs a line `<!-- not run: WHY -->` above it |
//! | any other, except bash, sh and python | not run |
//!
//! Every block in TOML must be valid TOML. Blocks within an HTML comment are tested too: a page can prepare files in them that its readers
//! have already.
//!
//! Each page runs in its own folder, which has the project's folders, models and programs at the same paths as the project. Servers listen on a
//! free port instead of 1234. If an answer is an error, the page must show it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to become healthy, and to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// The beginning of the line above a block that is not run.
const NOT_RUN: &str = "<!-- not run: ";

/// A block of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// The line of its fence, from 1.
    pub line: usize,
    /// How it is tested.
    pub action: Action,
    /// Its content.
    pub text: String,
}

/// How a block is tested.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Bash runs it.
    Run,
    /// Python runs it.
    Python,
    /// Bash starts it.
    Server,
    /// It is written to this file.
    File(String),
    /// The output of the block before it contains it.
    Shows,
    /// Nothing.
    Excerpt,
}

/// The blocks of a page.
///
/// # Errors
///
/// Commands that are neither run nor marked as not run, unknown info strings, and invalid TOML.
pub fn blocks(page: &str) -> Result<Vec<Block>, String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines().enumerate();
    let mut above = "";
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else {
            if !line.trim().is_empty() {
                above = line.trim();
            }
            continue;
        };
        let line = number + 1;
        let mut text = String::new();
        loop {
            match lines.next() {
                Some((_, inner)) if inner.trim() == "```" => break,
                Some((_, inner)) => text += &format!("{inner}\n"),
                None => return Err(format!("line {line}: a block without an end")),
            }
        }
        let action = action(info, above).map_err(|wrong| format!("line {line}: {wrong}"))?;
        if info.split(',').next() == Some("toml") {
            text.parse::<toml::Table>()
                .map_err(|error| format!("line {line}: invalid TOML: {error}"))?;
        }
        let shown = matches!(
            blocks.last(),
            Some(Block {
                action: Action::Run | Action::Python,
                ..
            })
        );
        if action == Action::Shows && !shown {
            return Err(format!("line {line}: found no block before it that is run"));
        }
        blocks.push(Block { line, action, text });
        above = "";
    }
    Ok(blocks)
}

fn action(info: &str, above: &str) -> Result<Action, String> {
    let (language, what) = info.split_once(',').unwrap_or((info, ""));
    match (language, what) {
        ("bash", "run") => Ok(Action::Run),
        ("python", "run") => Ok(Action::Python),
        ("bash", "server") => Ok(Action::Server),
        ("text", "shows") => Ok(Action::Shows),
        ("bash" | "python", "norun") if above.starts_with(NOT_RUN) => Ok(Action::Excerpt),
        ("bash" | "python", "norun") => Err(format!("found no line `{NOT_RUN}WHY -->` above it")),
        ("bash" | "sh" | "python", _) => Err(format!(
            "found {info:?}, expected `{language},run`, `{language},server` or `{language},norun`"
        )),
        (_, "") => Ok(Action::Excerpt),
        (_, what) => match what.strip_prefix("file=") {
            Some(path) if !path.is_empty() => Ok(Action::File(path.to_string())),
            _ => Err(format!(
                "found {info:?}, expected `{language}` or `{language},file=PATH`"
            )),
        },
    }
}

/// Runs the blocks of a page.
pub struct Reader {
    folder: tempfile::TempDir,
    python: PathBuf,
    port: u16,
    server: Option<Child>,
}

impl Reader {
    /// A reader for the checkout `project`, with the programs in the folder `programs` and this interpreter.
    pub fn new(project: &Path, programs: &Path, python: PathBuf) -> Self {
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let absolute = |path: &Path| std::fs::canonicalize(path).expect("the folder is there");
        for name in ["examples", "maps", "plugin"] {
            symlink(absolute(&project.join(name)), folder.path().join(name)).expect("links can be made");
        }
        // A folder of links: a page may add models to it.
        for name in ["target", "models"] {
            std::fs::create_dir(folder.path().join(name)).expect("the folder can be made");
        }
        for model in std::fs::read_dir(project.join("models")).into_iter().flatten() {
            let model = model.expect("the folder can be read");
            let link = folder.path().join("models").join(model.file_name());
            symlink(absolute(&model.path()), link).expect("links can be made");
        }
        symlink(absolute(programs), folder.path().join("target/release")).expect("links can be made");
        // A port that was free a moment ago.
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        Self {
            folder,
            python,
            port,
            server: None,
        }
    }

    /// Runs the blocks of `page` in their order.
    ///
    /// # Errors
    ///
    /// The first block that fails, with its output.
    pub fn read(&mut self, page: &str) -> Result<(), String> {
        let blocks = blocks(page)?;
        let mut printed = String::new();
        for (index, block) in blocks.iter().enumerate() {
            let text = self.with_port(&block.text);
            let done = match &block.action {
                Action::Excerpt => continue,
                Action::File(path) => self.write(path, &text),
                Action::Server => self.start(&text),
                Action::Shows => shows(&printed, &text),
                Action::Run | Action::Python => {
                    let shown = blocks.get(index + 1).filter(|next| next.action == Action::Shows);
                    let may_fail = shown.is_some_and(|next| next.text.contains("error"));
                    self.run(block.action == Action::Python, &text, may_fail)
                        .map(|output| printed = output)
                }
            };
            done.map_err(|wrong| {
                let log = std::fs::read_to_string(self.log()).unwrap_or_default();
                let log: Vec<&str> = log.lines().rev().take(20).collect();
                let log: Vec<&str> = log.into_iter().rev().collect();
                format!(
                    "line {}:\n{text}\n{wrong}\nthe server's log:\n{}",
                    block.line,
                    log.join("\n")
                )
            })?;
        }
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    fn with_port(&self, text: &str) -> String {
        text.replace("localhost:1234", &format!("localhost:{}", self.port))
            .replace("port = 1234", &format!("port = {}", self.port))
    }

    fn write(&self, path: &str, text: &str) -> Result<(), String> {
        let path = self.folder.path().join(path);
        let folder = path.parent().unwrap_or(&path);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|error| format!("{}: {error}", path.display()))
    }

    /// A shell in the reader's folder.
    fn bash(&self, script: &str) -> Command {
        let mut bash = Command::new("bash");
        let programs = self.folder.path().join("target/release");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(programs).chain(std::env::split_paths(&path));
        // As in one terminal: exported variables are kept.
        let script = format!("if [ -e .exported ]; then . ./.exported; fi\n{script}");
        bash.args(["-euo", "pipefail", "-c", &script])
            .current_dir(self.folder.path())
            .env(
                "PATH",
                std::env::join_paths(paths).expect("the paths were joined before"),
            )
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        bash
    }

    /// Runs a script, and returns its output.
    fn run(&self, python: bool, script: &str, may_fail: bool) -> Result<String, String> {
        let mut command = if python {
            let mut command = self.bash("\"$STEERMAP_PYTHON\" - <<< \"$STEERMAP_SCRIPT\"");
            command
                .env("STEERMAP_PYTHON", &self.python)
                .env("STEERMAP_SCRIPT", script);
            command
        } else {
            self.bash(&format!("{script}\nexport -p > .exported\n"))
        };
        let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        let said = format!("it printed:\n{printed}\n{errors}");
        if !output.status.success() {
            return Err(format!("it ended with {}; {said}", output.status));
        }
        if !may_fail && printed.contains("{\"error\":") {
            return Err(format!("an answer is an error; {said}"));
        }
        Ok(printed)
    }

    /// Starts a server, after stopping the previous one.
    fn start(&mut self, script: &str) -> Result<(), String> {
        self.stop();
        let log = std::fs::File::create(self.log()).map_err(|error| error.to_string())?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        let mut command = self.bash(script);
        // A separate process group, so that the shell and its children end together.
        let child = command.process_group(0).stdout(log).stderr(errors).spawn();
        self.server = Some(child.map_err(|error| format!("{command:?}: {error}"))?);
        let end = Instant::now() + PATIENCE;
        while !self.healthy() {
            let ended = self.server.as_mut().and_then(|server| server.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() > end {
                return Err(match ended {
                    Some(status) => format!("the server ended with {status}"),
                    None => "the server does not answer".to_string(),
                });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn healthy(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return false;
        };
        let mut answer = String::new();
        let asked = stream.write_all(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n");
        asked.and_then(|()| stream.read_to_string(&mut answer)).is_ok()
            && answer.lines().next().is_some_and(|status| status.contains(" 200"))
    }

    fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let signal = |name: &str| {
            let group = format!("-{}", server.id());
            let _ = Command::new("kill").args([name, "--", &group]).status();
        };
        signal("-TERM");
        let end = Instant::now() + PATIENCE;
        while matches!(server.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        if matches!(server.try_wait(), Ok(None)) {
            let group = format!("-{}", server.id());
            let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        }
        let _ = server.wait();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Checks that the lines of `expected` are in `printed`, in their order. All white space counts as equal. In a line without `…`, numbers may
/// differ by 1%, since they depend on the processor.
fn shows(printed: &str, expected: &str) -> Result<(), String> {
    let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let whole = squeezed(printed);
    let mut from = 0;
    for line in expected.lines().map(squeezed).filter(|line| !line.is_empty()) {
        let found = if line.contains('…') {
            let mut pieces = line.split('…').map(str::trim).filter(|piece| !piece.is_empty());
            pieces.try_fold(from, |from, piece| {
                Some(from + whole[from..].find(piece)? + piece.len())
            })
        } else {
            end_of_words(&whole, from, &line)
        };
        let missing = || format!("{line:?} is not in what was printed, or not behind what stands above it:\n{printed}");
        from = found.ok_or_else(missing)?;
    }
    Ok(())
}

/// The end of the first occurrence of the words of `line` in `text` from `from` on, if there is one. The words of `text` are separated by single
/// spaces.
fn end_of_words(text: &str, from: usize, line: &str) -> Option<usize> {
    let wanted: Vec<&str> = line.split(' ').collect();
    let mut words = Vec::new();
    let mut end = from;
    for word in text[from..].split(' ') {
        end += word.len();
        words.push((word, end));
        end += 1;
    }
    let alike = |(found, wanted): (&(&str, usize), &&str)| same(found.0, wanted);
    let at = words
        .windows(wanted.len())
        .find(|found| found.iter().zip(&wanted).all(alike))?;
    at.last().map(|(_, end)| (*end).min(text.len()))
}

/// Whether two words are equal, or numbers of about the same value.
fn same(found: &str, wanted: &str) -> bool {
    match (found.parse::<f64>(), wanted.parse::<f64>()) {
        (Ok(found), Ok(wanted)) => (found - wanted).abs() <= 0.01 * wanted.abs(),
        _ => found == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actions(page: &str) -> Vec<Action> {
        blocks(page).unwrap().into_iter().map(|block| block.action).collect()
    }

    #[test]
    fn info_strings_determine_the_tests() {
        let page = "a\n```bash,run\nls\n```\n```text,shows\nx\n```\n<!-- not run: too long -->\n```bash,norun\nls\n```\n  ```toml,file=a/b.toml\n  a = 1\n  ```\n```text\nx\n```\n";
        let file = Action::File("a/b.toml".to_string());
        assert_eq!(
            actions(page),
            [Action::Run, Action::Shows, Action::Excerpt, file, Action::Excerpt]
        );
        assert_eq!(blocks(page).unwrap()[0].text, "ls\n");
    }

    #[test]
    fn wrong_blocks_are_errors() {
        for (page, wrong) in [
            ("```bash\nls\n```\n", "line 1: found \"bash\", expected `bash,run`"),
            ("a\n\n```sh\nls\n```\n", "line 3: found \"sh\""),
            (
                "```bash,norun\nls\n```\n",
                "line 1: found no line `<!-- not run: WHY -->` above it",
            ),
            ("```bash,rnu\nls\n```\n", "line 1: found \"bash,rnu\""),
            ("```toml,fle=a\n```\n", "line 1: found \"toml,fle=a\""),
            (
                "```text,shows\na\n```\n",
                "line 1: found no block before it that is run",
            ),
            ("```text\na\n", "line 1: a block without an end"),
            ("```toml\na = \n```\n", "line 1: invalid TOML: TOML parse error"),
            (
                "```toml,file=a.toml\n[a\n```\n",
                "line 1: invalid TOML: TOML parse error",
            ),
        ] {
            let error = blocks(page).unwrap_err();
            assert!(error.starts_with(wrong), "{page:?}: {error}");
        }
    }

    #[test]
    fn the_blocks_of_a_page_are_run_in_order() {
        let project = crate::project("");
        let programs = tempfile::tempdir().unwrap();
        let read = |page: &str| Reader::new(&project, programs.path(), "python3".into()).read(page);
        let page = "```bash,run\nexport WORD=hello\nls examples/family > list\n```\n```bash,run\necho \"$WORD  world 1.25\"\n```\n\
                    ```text,shows\nhello world …\n```\n```toml,file=new/a.toml\nport = 1234\n```\n\
                    ```bash,run\ngrep -v 1234 new/a.toml; grep stories-3m list\n```\n\
                    ```python,run\nprint(open('new/a.toml').read())\n```\n```text,shows\nport =\n```\n";
        read(page).unwrap();
        let error = read("```bash,run\nfalse\ntrue\n```\n").unwrap_err();
        assert!(
            error.starts_with("line 1:") && error.contains("it ended with"),
            "{error}"
        );
        let error = read("```bash,run\necho '{\"error\": 1}'\n```\n").unwrap_err();
        assert!(error.contains("an answer is an error"), "{error}");
        read("```bash,run\necho '{\"error\": 1}'\n```\n```text,shows\n{\"error\": 1}\n```\n").unwrap();
        let error = read("```bash,run\necho a b\n```\n```text,shows\nb\na\n```\n").unwrap_err();
        assert!(error.contains("\"a\" is not in what was printed"), "{error}");
        read(
            "```bash,run\necho 'layer  1.003 0.5 x'; echo 'two 2.0'\n```\n```text,shows\nlayer 1.000 0.5\ntwo 2\n```\n",
        )
        .unwrap();
        let error = read("```bash,run\necho a 1.1\n```\n```text,shows\na 1.0\n```\n").unwrap_err();
        assert!(error.contains("is not in what was printed"), "{error}");
        let error = read("```bash,server\nfalse\n```\n").unwrap_err();
        assert!(error.contains("the server ended with"), "{error}");
    }
}
