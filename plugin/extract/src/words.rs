//! Shortens the engine's messages.

/// A message without the backtrace that candle adds to its errors if `RUST_BACKTRACE` is set.
pub fn without_backtrace(message: &str) -> String {
    let is_frame = |line: &&str| line.starts_with(' ') && line.trim_start().starts_with("0: ");
    let lines: Vec<&str> = message.lines().collect();
    let end = lines.iter().position(is_frame).unwrap_or(lines.len());
    lines[..end].join("\n").trim_end().to_string()
}

/// The result of requesting a model from the hub, if the engine's message is about that.
#[cfg(feature = "engine")]
pub(crate) fn hub_answer(message: &str) -> Option<String> {
    let code = message.split_once("(HTTP ").map(|(_, rest)| rest);
    let code = code.and_then(|rest| rest.split_once(')')).map(|(code, _)| code);
    match code {
        Some("404") => Some("the hub has no such model (HTTP 404)".to_string()),
        Some(code @ ("401" | "403")) => Some(format!(
            "the hub denies access (HTTP {code}): check the name; a private or gated model needs an access token in HF_TOKEN"
        )),
        Some(code) => Some(format!("the hub answered with an error (HTTP {code})")),
        None => {
            // The HTTP client's causes, from the outermost to the innermost.
            let (_, causes) = message.split_once("request error: ")?;
            let reason = causes.rsplit(": ").next().unwrap_or_default().trim();
            Some(format!("the hub could not be reached ({reason})"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backtraces_are_cut_off() {
        let plain = "could not be loaded: two\nlines";
        assert_eq!(without_backtrace(plain), plain);
        let traced = "unsupported dtype BF16 for op matmul\n   0: candle_core::error::Error::bt\n   1: main\n             at x.rs:1\n";
        assert_eq!(without_backtrace(traced), "unsupported dtype BF16 for op matmul");
        assert_eq!(without_backtrace(""), "");
        let real = candle_core::Error::Msg("no".to_string());
        let real = candle_core::Error::WithBacktrace {
            inner: Box::new(real),
            backtrace: Box::new(std::backtrace::Backtrace::force_capture()),
        };
        assert!(real.to_string().lines().count() > 2);
        assert_eq!(without_backtrace(&real.to_string()), "no");
    }

    #[cfg(feature = "engine")]
    #[test]
    fn answers_of_the_hub() {
        let answer = |message: &str| hub_answer(message).unwrap();
        assert!(answer("Model `a/b` was not found (HTTP 404). Check the model ID").contains("HTTP 404"));
        assert!(answer("Could not access `a/b` (HTTP 401). You may need to log in").contains("HF_TOKEN"));
        assert!(answer("Failed (HTTP 500): request error: x: status code 500").contains("an error (HTTP 500)"));
        let refused =
            answer("request error: https://x/y: Connection Failed: Connect error: Connection refused (os error 111)");
        assert_eq!(
            refused,
            "the hub could not be reached (Connection refused (os error 111))"
        );
        assert_eq!(hub_answer("no weights"), None);
        assert_eq!(hub_answer(""), None);
    }
}
