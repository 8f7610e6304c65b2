//! Where a token comes from: a file, else the environment.

use anyhow::{Context as _, Result};
use server::Token;

use crate::config::TokenArgs;

/// The variable that holds a token when no file is named.
const TOKEN_VARIABLE: &str = "ALLUVIUM_TOKEN";

/// The token's text, as a client sends it; `None` if there is none.
pub(crate) fn text(args: &TokenArgs) -> Result<Option<String>> {
    let text = match &args.token_file {
        Some(path) => {
            let text = std::fs::read_to_string(path);
            Some(text.with_context(|| format!("the token file {} can't be read", path.display()))?)
        }
        None => std::env::var(TOKEN_VARIABLE)
            .ok()
            .filter(|text| !text.trim().is_empty()),
    };
    Ok(text.map(|text| text.trim().to_owned()))
}

/// The token that a server asks for; `None` if there is none.
pub(crate) fn required(args: &TokenArgs) -> Result<Option<Token>> {
    let text = text(args)?;
    text.map(|text| Token::new(&text))
        .transpose()
        .context("the token can't be used")
}
