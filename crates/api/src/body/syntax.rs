//! What is wrong with JSON text, in the words of Go's parser.
//!
//! Clients of Kubernetes print the sentence the server sends, and tests of other projects match on it. So a text that our parser
//! refused is read again here, state by state as Go's scanner does, for nothing but the complaint.

use crate::field::quote;

/// Deepest nesting Go reads.
const DEEPEST: usize = 10_000;

/// The complaint about a text; `None` if there is none to be made about its syntax.
pub(super) fn complaint(text: &[u8]) -> Option<String> {
    let mut scan = Scan { text, at: 0 };
    scan.document().err().map(|stop| match stop {
        Stop::End => "unexpected end of JSON input".to_owned(),
        Stop::TooDeep => "exceeded max depth".to_owned(),
        Stop::Unexpected(byte, wanted) => format!("invalid character {} {wanted}", shown(byte)),
    })
}

/// The start of what was sent, as it stands in brackets behind the complaint: text where it looks like an object, else hexadecimal
/// digits.
pub(super) fn summary(data: &[u8]) -> String {
    const LONGEST: usize = 30;
    if data.is_empty() {
        return "<empty>".to_owned();
    }
    let head = &data[..data.len().min(LONGEST)];
    let more = if data.len() > LONGEST { " ..." } else { "" };
    if data[0] == b'{' {
        return format!("{}{more}", String::from_utf8_lossy(head));
    }
    let digits: String = head.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{digits}{more}")
}

enum Stop {
    End,
    TooDeep,
    Unexpected(u8, &'static str),
}

/// What is not closed yet.
enum Open {
    Object,
    List,
}

fn enter(open: &mut Vec<Open>, what: Open) -> Result<(), Stop> {
    if open.len() == DEEPEST {
        return Err(Stop::TooDeep);
    }
    open.push(what);
    Ok(())
}

struct Scan<'t> {
    text: &'t [u8],
    at: usize,
}

impl Scan<'_> {
    /// Walks the text with a list of what is open instead of calling itself: nesting costs no stack.
    fn document(&mut self) -> Result<(), Stop> {
        let mut open = Vec::new();
        let mut first = self.next_token()?;
        loop {
            let begins = match first {
                b'{' => self.object(&mut open)?,
                b'[' => self.list(&mut open)?,
                scalar => {
                    self.scalar(scalar)?;
                    None
                }
            };
            first = match begins {
                Some(first) => first,
                None => match self.after_value(&mut open)? {
                    Some(first) => first,
                    None => return Ok(()),
                },
            };
        }
    }

    /// Behind a value: closes what ends, and returns the first byte of the next value.
    fn after_value(&mut self, open: &mut Vec<Open>) -> Result<Option<u8>, Stop> {
        loop {
            match open.last() {
                None => {
                    return match self.next_token() {
                        Ok(byte) => Err(Stop::Unexpected(byte, "after top-level value")),
                        Err(_) => Ok(None),
                    };
                }
                Some(Open::Object) => match self.next_token()? {
                    b'}' => drop(open.pop()),
                    b',' => {
                        let quote = self.next_token()?;
                        return self.key(quote).map(Some);
                    }
                    other => return Err(Stop::Unexpected(other, "after object key:value pair")),
                },
                Some(Open::List) => match self.next_token()? {
                    b']' => drop(open.pop()),
                    b',' => return self.next_token().map(Some),
                    other => return Err(Stop::Unexpected(other, "after array element")),
                },
            }
        }
    }

    fn next(&mut self) -> Result<u8, Stop> {
        let byte = self.text.get(self.at).copied().ok_or(Stop::End)?;
        self.at += 1;
        Ok(byte)
    }

    /// The next byte that is no white space.
    fn next_token(&mut self) -> Result<u8, Stop> {
        loop {
            match self.next()? {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                byte => return Ok(byte),
            }
        }
    }

    fn scalar(&mut self, first: u8) -> Result<(), Stop> {
        match first {
            b'"' => self.string(),
            b't' => self.literal("rue", "in literal true"),
            b'f' => self.literal("alse", "in literal false"),
            b'n' => self.literal("ull", "in literal null"),
            b'-' | b'0'..=b'9' => self.number(first),
            other => Err(Stop::Unexpected(other, "looking for beginning of value")),
        }
    }

    /// The first byte of an object's first value; `None` if it has none.
    fn object(&mut self, open: &mut Vec<Open>) -> Result<Option<u8>, Stop> {
        enter(open, Open::Object)?;
        match self.next_token()? {
            b'}' => {
                open.pop();
                Ok(None)
            }
            quote => self.key(quote).map(Some),
        }
    }

    fn list(&mut self, open: &mut Vec<Open>) -> Result<Option<u8>, Stop> {
        enter(open, Open::List)?;
        match self.next_token()? {
            b']' => {
                open.pop();
                Ok(None)
            }
            first => Ok(Some(first)),
        }
    }

    /// The first byte of the value of the key that begins here.
    fn key(&mut self, quote: u8) -> Result<u8, Stop> {
        if quote != b'"' {
            return Err(Stop::Unexpected(quote, "looking for beginning of object key string"));
        }
        self.string()?;
        match self.next_token()? {
            b':' => self.next_token(),
            other => Err(Stop::Unexpected(other, "after object key")),
        }
    }

    fn string(&mut self) -> Result<(), Stop> {
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => match self.next()? {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            let digit = self.next()?;
                            if !digit.is_ascii_hexdigit() {
                                return Err(Stop::Unexpected(digit, "in \\u hexadecimal character escape"));
                            }
                        }
                    }
                    other => return Err(Stop::Unexpected(other, "in string escape code")),
                },
                control @ 0..0x20 => return Err(Stop::Unexpected(control, "in string literal")),
                _ => {}
            }
        }
    }

    fn literal(&mut self, rest: &'static str, place: &'static str) -> Result<(), Stop> {
        for wanted in rest.bytes() {
            let found = self.next()?;
            if found != wanted {
                return Err(Stop::Unexpected(found, expecting(place, wanted)));
            }
        }
        Ok(())
    }

    fn number(&mut self, first: u8) -> Result<(), Stop> {
        let first = match first {
            b'-' => match self.next()? {
                digit @ b'0'..=b'9' => digit,
                other => return Err(Stop::Unexpected(other, "in numeric literal")),
            },
            digit => digit,
        };
        if first != b'0' {
            self.digits();
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digit("after decimal point in numeric literal")?;
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.text.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digit("in exponent of numeric literal")?;
        }
        Ok(())
    }

    /// One digit at least.
    fn digit(&mut self, place: &'static str) -> Result<(), Stop> {
        match self.next()? {
            b'0'..=b'9' => self.digits(),
            other => return Err(Stop::Unexpected(other, place)),
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }
}

/// Where in a literal something else stood than the letter it needs.
fn expecting(place: &'static str, wanted: u8) -> &'static str {
    match (place, wanted) {
        ("in literal true", b'r') => "in literal true (expecting 'r')",
        ("in literal true", b'u') => "in literal true (expecting 'u')",
        ("in literal true", _) => "in literal true (expecting 'e')",
        ("in literal false", b'a') => "in literal false (expecting 'a')",
        ("in literal false", b'l') => "in literal false (expecting 'l')",
        ("in literal false", b's') => "in literal false (expecting 's')",
        ("in literal false", _) => "in literal false (expecting 'e')",
        (_, b'u') => "in literal null (expecting 'u')",
        _ => "in literal null (expecting 'l')",
    }
}

fn shown(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        other => {
            let quoted = quote(&char::from(other).to_string());
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints() {
        let cases = [
            ("", "unexpected end of JSON input"),
            ("{\"apiVersion\":", "unexpected end of JSON input"),
            (
                "{\"a\":1,}",
                "invalid character '}' looking for beginning of object key string",
            ),
            ("nonsense", "invalid character 'o' in literal null (expecting 'u')"),
            ("{}{}", "invalid character '{' after top-level value"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 2}", "invalid character '2' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            ("\"\n\"", "invalid character '\\n' in string literal"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.e", "invalid character 'e' after decimal point in numeric literal"),
            ("01", "invalid character '1' after top-level value"),
            ("'a'", "invalid character '\\'' looking for beginning of value"),
        ];
        for (text, expected) in cases {
            assert_eq!(complaint(text.as_bytes()).as_deref(), Some(expected), "{text}");
        }
        for fine in ["{\"a\": [1, -2.5e+3, true, null, \"\\u00e9\"]}", " 0 "] {
            assert_eq!(complaint(fine.as_bytes()), None, "{fine}");
        }
    }

    #[test]
    fn summaries() {
        assert_eq!(summary(b""), "<empty>");
        assert_eq!(summary(b"{}"), "{}");
        assert_eq!(summary(b"[]"), "5b5d");
        assert_eq!(summary(&[b'{'; 40]), format!("{} ...", "{".repeat(30)));
    }
}
