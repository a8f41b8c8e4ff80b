//! `--watch`: the same view again and again, until interrupted.

use crate::args::Global;
use crate::connect::Admin;
use crate::error::CliError;
use crate::output;
use cairn_env::Env;
use std::time::Duration;

/// Shows `view` every `seconds`. A leader that has gone is looked for again.
///
/// # Errors
/// The first look, when it fails: a wrong address is not waited for.
pub(super) async fn repeat(
    env: &Env,
    global: &Global,
    seconds: u64,
    view: impl AsyncFn(&mut Admin) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut admin = Admin::leader(env, global).await?;
    output::clear_screen();
    view(&mut admin).await?;
    loop {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        output::clear_screen();
        if let Err(error) = view(&mut admin).await {
            output::error(&error);
            match Admin::leader(env, global).await {
                Ok(found) => admin = found,
                Err(error) => output::error(&error),
            }
        }
    }
}
