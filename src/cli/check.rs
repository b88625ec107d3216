//! `bgrs-server check`: reading the configuration is the check; what is wrong was said by then.

use super::say;
use bgrs::Config;

/// Says that all is well, and what the paths came to.
pub fn run(config: &Config) {
    say(format_args!("the configuration is right"));
    say(format_args!("  database  {}", config.store.database.display()));
    say(format_args!("  key file  {}", config.store.key_file.display()));
    say(format_args!("  media     {}", config.media.dir.display()));
}
