//! Sets of indexes as text: `1,3-5,7`. Increasing, so that a set has one form.

/// How many indexes below `completions` the text names.
pub(super) fn count(text: &str, completions: i32) -> Result<i32, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let mut last = None;
    let mut total = 0;
    for part in text.split(',') {
        let (first, end) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

fn interval(text: &str, completions: i32) -> Result<(i32, i32), String> {
    let parts: Vec<&str> = text.split('-').collect();
    if parts.len() > 2 {
        return Err(format!(
            "the fragment {text:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        ));
    }
    let first = index(parts[0], completions)?;
    let Some(end) = parts.get(1) else {
        return Ok((first, first));
    };
    let end = index(end, completions)?;
    if first >= end {
        return Err(format!("non-increasing order, previous: {first}, current: {end}"));
    }
    Ok((first, end))
}

fn index(text: &str, completions: i32) -> Result<i32, String> {
    let number: i64 = text
        .parse()
        .map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
    match i32::try_from(number) {
        Ok(index) if index < completions => Ok(index),
        _ => Err(format!("too large index: {text:?}")),
    }
}

/// The first index that is in both sets. Parts that are none are passed over.
pub(super) fn overlap(one: &str, other: &str, completions: i32) -> Option<i32> {
    let intervals = |text: &str| -> Vec<(i32, i32)> {
        let parts = text.split(',').filter(|part| !part.is_empty());
        parts.filter_map(|part| interval(part, completions).ok()).collect()
    };
    let (one, other) = (intervals(one), intervals(other));
    let (mut left, mut right) = (one.iter().peekable(), other.iter().peekable());
    while let (Some((first, end)), Some((other_first, other_end))) = (left.peek(), right.peek()) {
        if first <= other_end && other_first <= end {
            return Some(*first.max(other_first));
        }
        if first <= other_first {
            left.next();
        } else {
            right.next();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        assert_eq!(count("", 5), Ok(0));
        assert_eq!(count("0,2-4", 5), Ok(4));
        for (text, error) in [
            ("5", "too large index: \"5\""),
            ("x", "cannot convert string to integer for index: \"x\""),
            ("3-1", "non-increasing order, previous: 3, current: 1"),
            ("1,1", "non-increasing order, previous: 1, current: 1"),
        ] {
            assert_eq!(count(text, 5), Err(error.to_owned()));
        }
        assert_eq!(overlap("0-1,3", "2-4", 5), Some(3));
        assert_eq!(overlap("0-1", "2,4", 5), None);
    }
}
