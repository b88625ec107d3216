//! Texts that others wrote, made harmless for a terminal; and words for a shell.

/// Characters of a line at most.
const LONGEST: usize = 1000;

/// What stands for a character that would do something.
const REPLACEMENT: char = '\u{FFFD}';

/// The text as one line.
pub fn one_line(text: &str) -> String {
    let plain = |c| if matches!(c, '\n' | '\r' | '\t') { ' ' } else { harmless(c) };
    let mut line: String = text.trim().chars().take(LONGEST).map(plain).collect();
    if text.trim().chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}

/// The text with its lines.
pub fn lines(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '\n' | '\t') { c } else { harmless(c) }).collect()
}

/// A control character moves the cursor or worse; those that turn the direction show a text as another.
fn harmless(c: char) -> char {
    let turns = matches!(c, '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    if c.is_control() || turns { REPLACEMENT } else { c }
}

/// The text as one word of a shell's command line.
pub fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_replaced() {
        assert_eq!(
            one_line(" 425\u{1b}[31m of\u{202e} 1000\r\nimported\n"),
            "425\u{FFFD}[31m of\u{FFFD} 1000  imported"
        );
        assert_eq!(one_line("\u{9b}2J\u{7f}\u{2066}é"), "\u{FFFD}2J\u{FFFD}\u{FFFD}é");
        assert_eq!(lines("a\tb\n\u{7}\r"), "a\tb\n\u{FFFD}\u{FFFD}");
        assert_eq!(one_line(&"x".repeat(1001)), "x".repeat(1000) + "…");
        assert_eq!(one_line(&"x".repeat(1000)), "x".repeat(1000));
    }

    #[test]
    fn a_word_is_quoted_where_a_shell_would_read_it_otherwise() {
        for (text, word) in [("a/b-1.csv", "a/b-1.csv"), ("", "''"), ("a b", "'a b'"), ("it's", "'it'\\''s'")] {
            assert_eq!(quoted(text), word);
        }
    }
}
