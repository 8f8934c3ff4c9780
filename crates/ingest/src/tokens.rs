//! Bearer tokens from a file, which is read again when it changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use percent_encoding::percent_decode_str;
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use crate::problem::Problem;

/// Between looks at the file.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// More bytes than any list of tokens has.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The tokens that hold now. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Tokens(watch::Receiver<Arc<Vec<Secret>>>);

/// Never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// The file behind [`Tokens`].
#[derive(Debug)]
pub(crate) struct TokensFile {
    path: PathBuf,
    tokens: watch::Sender<Arc<Vec<Secret>>>,
    seen: Option<Stamp>,
}

/// What changes when a file is written or replaced.
type Stamp = (SystemTime, u64);

impl TokensFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// Why there is no token in it.
    pub(crate) fn open(path: &Path) -> Result<(Self, Tokens), String> {
        let seen = stamp(path);
        let tokens = read(path)?;
        let (sender, receiver) = watch::channel(Arc::new(tokens));
        Ok((Self { path: path.to_owned(), tokens: sender, seen }, Tokens(receiver)))
    }

    /// Looks for changes until it is dropped. A file that can't be read or holds no token changes nothing.
    pub(crate) async fn follow(mut self) {
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let path = self.path.clone();
            let seen = self.seen;
            let look = tokio::task::spawn_blocking(move || {
                let now = stamp(&path);
                (now != seen).then(|| (now, read(&path)))
            });
            let Ok(Some((now, tokens))) = look.await else { continue };
            self.seen = now;
            match tokens {
                Ok(tokens) => {
                    tracing::info!(path = %self.path.display(), count = tokens.len(), "tokens read again");
                    self.tokens.send_replace(Arc::new(tokens));
                }
                Err(problem) => {
                    tracing::warn!(path = %self.path.display(), error = %problem, "tokens not read again, the old ones hold")
                }
            }
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read(path: &Path) -> Result<Vec<Secret>, String> {
    let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > FILE_BYTES_MAX {
        return Err(format!("{length} bytes; at most {FILE_BYTES_MAX} are read"));
    }
    parse(&std::fs::read_to_string(path).map_err(|error| error.to_string())?)
}

fn parse(text: &str) -> Result<Vec<Secret>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let tokens: Vec<Secret> = lines.map(|line| Secret(line.as_bytes().to_vec())).collect();
    if tokens.is_empty() { Err("holds no token".to_owned()) } else { Ok(tokens) }
}

impl Tokens {
    /// Lets a request pass that has a token: `Authorization: Bearer`, else `access_token` in the query.
    pub(crate) fn check(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
        let unauthorized = |detail| Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail));
        let from_query;
        let token = match headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes) {
            Some(value) => match value.split_at_checked(7) {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token.trim_ascii(),
                Some(_) | None => return unauthorized("Authorization is not of the form `Bearer TOKEN`"),
            },
            None => match uri.query().and_then(query_token) {
                Some(token) => {
                    from_query = token;
                    &from_query
                }
                None => {
                    return unauthorized(
                        "a token is needed: `Authorization: Bearer TOKEN`, or `access_token` in the query",
                    );
                }
            },
        };
        if self.allows(token) { Ok(()) } else { unauthorized("the token is not one of ours") }
    }

    /// Compares with every token, in time that depends on lengths only.
    fn allows(&self, token: &[u8]) -> bool {
        let tokens = Arc::clone(&self.0.borrow());
        let mut found = subtle::Choice::from(0);
        for known in tokens.iter() {
            found |= known.0.as_slice().ct_eq(token);
        }
        found.into()
    }
}

fn query_token(query: &str) -> Option<Vec<u8>> {
    let parameters = query.split('&').filter_map(|parameter| parameter.split_once('='));
    let (_, value) = parameters.into_iter().find(|(name, _)| *name == "access_token")?;
    Some(percent_decode_str(value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Tokens {
        let (sender, receiver) = watch::channel(Arc::new(parse(text).unwrap()));
        drop(sender);
        Tokens(receiver)
    }

    fn passes(tokens: &Tokens, authorization: Option<&str>, uri: &str) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        tokens.check(&headers, &uri.parse().unwrap()).is_ok()
    }

    #[test]
    fn a_token_passes_in_the_header_or_the_query() {
        let tokens = tokens("# ours\n one \ntwo+2\n");
        assert!(passes(&tokens, Some("Bearer one"), "/events"));
        assert!(passes(&tokens, Some("bearer two+2"), "/events"));
        assert!(passes(&tokens, None, "/events?a=b&access_token=two%2B2"));
        assert!(!passes(&tokens, Some("Bearer on"), "/events"));
        assert!(!passes(&tokens, Some("Basic one"), "/events?access_token=one"));
        assert!(!passes(&tokens, Some("Bearer"), "/events"));
        assert!(!passes(&tokens, None, "/events?token=one"));
        assert!(!passes(&tokens, None, "/events"));
        assert!(!passes(&tokens, Some("Bearer # ours"), "/events"));
    }

    #[test]
    fn a_file_without_tokens_is_an_error_and_secrets_are_not_printed() {
        assert!(parse("\n# nothing\n").is_err());
        assert!(!format!("{:?}", tokens("hidden")).contains("hidden"));
    }
}
