//! Cron schedules: five fields, or a name such as `@hourly`. The messages are those of the parser that Kubernetes uses.

/// The bounds of a field, and names of its values.
struct Bounds {
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

const FIELDS: [Bounds; 5] = [
    Bounds { low: 0, high: 59, names: &[] },
    Bounds { low: 0, high: 23, names: &[] },
    Bounds { low: 1, high: 31, names: &[] },
    Bounds {
        low: 1,
        high: 12,
        names: &["", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Bounds { low: 0, high: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

/// Whether a text is a schedule; if not, why.
pub fn parse(schedule: &str) -> Result<(), String> {
    if let Some(name) = schedule.strip_prefix('@') {
        return match name {
            "yearly" | "annually" | "monthly" | "weekly" | "daily" | "midnight" | "hourly" => Ok(()),
            _ if name.starts_with("every ") => duration(schedule, &name["every ".len()..]),
            _ => Err(format!("unrecognized descriptor: {schedule}")),
        };
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    for (text, bounds) in fields.iter().zip(&FIELDS) {
        for range in text.split(',').filter(|range| !range.is_empty()) {
            self::range(range, bounds)?;
        }
    }
    Ok(())
}

/// `@every` takes a duration of Go: numbers with units.
fn duration(schedule: &str, text: &str) -> Result<(), String> {
    let units = ["ns", "us", "µs", "ms", "s", "m", "h"];
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let unit = &number[..number.find(|c: char| c.is_ascii_digit()).unwrap_or(number.len())];
        if number.len() == rest.len() || !units.contains(&unit) {
            return Err(format!("failed to parse duration {schedule}: time: invalid duration \"{text}\""));
        }
        rest = &number[unit.len()..];
    }
    match text.is_empty() {
        true => Err(format!("failed to parse duration {schedule}: time: invalid duration \"\"")),
        false => Ok(()),
    }
}

/// `number`, `number-number` or `*`, with an optional `/step`.
fn range(expression: &str, bounds: &Bounds) -> Result<(), String> {
    let (ends, step) = match expression.split('/').collect::<Vec<_>>()[..] {
        [ends] => (ends, None),
        [ends, step] => (ends, Some(step)),
        _ => return Err(format!("too many slashes: {expression}")),
    };
    let (start, end) = match ends.split('-').collect::<Vec<_>>()[..] {
        ["*" | "?"] => (bounds.low, bounds.high),
        [one] => {
            let value = number(one, bounds)?;
            (value, if step.is_some() { bounds.high } else { value })
        }
        [start, end] => (number(start, bounds)?, number(end, bounds)?),
        _ => return Err(format!("too many hyphens: {expression}")),
    };
    let step = step.map_or(Ok(1), integer)?;
    if start < bounds.low {
        return Err(format!("beginning of range ({start}) below minimum ({}): {expression}", bounds.low));
    }
    if end > bounds.high {
        return Err(format!("end of range ({end}) above maximum ({}): {expression}", bounds.high));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {expression}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {expression}"));
    }
    Ok(())
}

fn number(text: &str, bounds: &Bounds) -> Result<u32, String> {
    let name = bounds.names.iter().position(|name| !name.is_empty() && name.eq_ignore_ascii_case(text));
    match name.and_then(|index| u32::try_from(index).ok()) {
        Some(value) => Ok(value),
        None => integer(text),
    }
}

fn integer(text: &str) -> Result<u32, String> {
    match text.parse::<i64>() {
        Ok(value) if value < 0 => Err(format!("negative number ({value}) not allowed: {text}")),
        Ok(value) => u32::try_from(value).map_err(|_| format!("failed to parse int from {text}: value out of range")),
        Err(_) => Err(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {}: invalid syntax",
            crate::quote::quote(text)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn schedules_are_told_from_what_is_none() {
        for good in ["*/5 * * * *", "0 0 1 jan mon-fri", "@hourly", "@every 1h30m", "0,30 8-18/2 * * ?"] {
            assert_eq!(parse(good), Ok(()), "{good}");
        }
        for (bad, message) in [
            ("bad", "expected exactly 5 fields, found 1: [bad]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("5-2 * * * *", "beginning of range (5) beyond end of range (2): 5-2"),
            ("@often", "unrecognized descriptor: @often"),
        ] {
            assert_eq!(parse(bad).unwrap_err(), message);
        }
    }
}
