//! Who may speak to a server: one shared token, or anyone on this machine.
//!
//! Guarantees: the token's text is not kept, only its hash, and comparing takes the same time whatever was offered.
//! It does not know what the holder of a token may read; everyone who has it may read all.

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tonic::Status;

use crate::http;

/// A shared secret that clients send as `authorization: Bearer <token>`.
#[derive(Clone, Debug)]
pub struct Token(blake3::Hash);

/// Why a text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing but white space.
    #[error("the token is empty")]
    Empty,
    /// A header could not carry it.
    #[error("the token holds white space or something that is not printable ASCII")]
    Unprintable,
}

impl Token {
    /// Takes `text` without the white space around it, as a file with a last line break has it.
    ///
    /// # Errors
    /// [`TokenError`] if nothing is left, or if a header could not carry it.
    pub fn new(text: &str) -> Result<Token, TokenError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Unprintable);
        }
        Ok(Token(blake3::hash(text.as_bytes())))
    }

    /// Whether `header` is `Bearer` and this token. The time it takes does not depend on how much of it is right,
    /// since `blake3::Hash` compares in constant time.
    fn admits(&self, header: Option<&[u8]>) -> bool {
        let Some((scheme, offered)) = header.and_then(|value| value.split_at_checked(BEARER.len()))
        else {
            return false;
        };
        scheme.eq_ignore_ascii_case(BEARER) && blake3::hash(offered) == self.0
    }
}

const BEARER: &[u8] = b"Bearer ";

/// Paths that answer without a token: a load balancer has none.
const OPEN_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// Lets a request pass if no token is asked for, if it brings it, or if its path is open; else answers 401, as gRPC
/// to a gRPC client.
pub(crate) async fn gate(
    State(token): State<Option<Token>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(token) = token else {
        return next.run(request).await;
    };
    let offered = request
        .headers()
        .get(header::AUTHORIZATION)
        .map(|value| value.as_bytes());
    if OPEN_PATHS.contains(&request.uri().path()) || token.admits(offered) {
        return next.run(request).await;
    }
    crate::metrics::refused();
    let reason = "this server asks for a token: send it as `authorization: Bearer <token>`";
    if http::is_grpc(request.headers()) {
        return Status::unauthenticated(reason).into_http();
    }
    (
        StatusCode::UNAUTHORIZED,
        [(header::WWW_AUTHENTICATE, "Bearer")],
        format!("{reason}\n"),
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_token_admits_itself_and_nothing_else() {
        let token = Token::new("open-sesame\n").unwrap();
        assert!(token.admits(Some(b"Bearer open-sesame")));
        assert!(token.admits(Some(b"bearer open-sesame")));
        for offered in [
            "Bearer open-sesam",
            "Bearer open-sesame2",
            "Basic open-sesame",
            "open-sesame",
            "Bearer ",
            "",
        ] {
            assert!(
                !token.admits(Some(offered.as_bytes())),
                "{offered:?} was admitted"
            );
        }
        assert!(!token.admits(None));
    }

    #[test]
    fn what_no_header_can_carry_is_no_token() {
        assert_eq!(Token::new(" \n").unwrap_err(), TokenError::Empty);
        assert_eq!(
            Token::new("two words").unwrap_err(),
            TokenError::Unprintable
        );
        assert_eq!(
            Token::new("schlüssel").unwrap_err(),
            TokenError::Unprintable
        );
    }

    #[test]
    fn a_token_does_not_show_its_text() {
        let shown = format!("{:?}", Token::new("open-sesame").unwrap());
        assert!(!shown.contains("sesame"), "{shown}");
    }
}
