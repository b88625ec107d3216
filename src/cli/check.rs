//! `bgrs-server check`: reading the configuration is the check; what is wrong was said by then.

use bgrs::Config;

/// Says that all is well, and what the paths came to.
pub fn run(config: &Config) {
    println!("the configuration is right");
    println!("  database  {}", config.store.database.display());
    println!("  key file  {}", config.store.key_file.display());
    println!("  media     {}", config.media.dir.display());
}
