//! Units of measure, currencies and counted things.

use std::collections::HashMap;
use std::sync::LazyLock;

use dashu::integer::IBig;
use dashu::rational::RBig;

/// A unit as a factor and powers of base units: `km/h` is 5/18 of m¹·s⁻¹.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unit {
    /// Multiplies the number to give it in base units.
    pub(crate) factor: RBig,
    /// Sorted by name; powers are never 0.
    pub(crate) powers: Vec<(String, i32)>,
}

impl Unit {
    pub(crate) fn none() -> Self {
        Self {
            factor: RBig::ONE,
            powers: Vec::new(),
        }
    }

    pub(crate) const fn is_none(&self) -> bool {
        self.powers.is_empty()
    }

    pub(crate) fn converts_to(&self, other: &Self) -> bool {
        self.powers == other.powers
    }

    /// `self · other^power`; absurd powers are refused.
    pub(crate) fn times(mut self, other: &Self, power: i32) -> Option<Self> {
        if power.abs() > 12 {
            return None;
        }
        let factor = other.factor.pow(power.unsigned_abs() as isize);
        self.factor = if power < 0 {
            self.factor / factor
        } else {
            self.factor * factor
        };
        for (name, p) in &other.powers {
            match self.powers.iter_mut().find(|(n, _)| n == name) {
                Some((_, mine)) => *mine += p * power,
                None => self.powers.push((name.clone(), p * power)),
            }
        }
        self.powers.retain(|(_, p)| *p != 0);
        self.powers.sort();
        Some(self)
    }

    /// The unit with the given name. Full names may be plural and of any case; symbols are exact.
    pub(crate) fn named(name: &str) -> Option<Self> {
        if let Some(unit) = prefixed(name) {
            return Some(unit);
        }
        let lower = name.to_lowercase();
        symbol(name)
            .or_else(|| word(&lower))
            .or_else(|| word(lower.strip_suffix('s')?))
            .or_else(|| word(lower.strip_suffix("es")?))
    }

    /// A unit of things that are counted: `apples`. Units of different things do not convert.
    pub(crate) fn counted(thing: &str) -> Self {
        let lower = thing.to_lowercase();
        let singular = match lower.strip_suffix("ies") {
            Some(stem) => format!("{stem}y"),
            None if lower.ends_with("ss") => lower,
            None => match lower.strip_suffix('s') {
                Some(stem) => stem.to_owned(),
                None => lower,
            },
        };
        Self {
            factor: RBig::ONE,
            powers: vec![(format!("#{singular}"), 1)],
        }
    }

    /// Degrees of an angle `°` and percent `%`: pure numbers with their own conversion.
    pub(crate) fn mark(sign: &str) -> Self {
        base(sign)
    }

    pub(crate) fn is_mark(&self, sign: &str) -> bool {
        matches!(self.powers.as_slice(), [(name, 1)] if name == sign)
    }

    pub(crate) fn currency(sign: char) -> Option<Self> {
        Some(base(match sign {
            '$' => "USD",
            '€' => "EUR",
            '£' => "GBP",
            '¥' => "JPY",
            '₹' => "INR",
            _ => return None,
        }))
    }
}

/// Units that are written with a prefix of their own: `μm`, `micrometers`, `kΩ`. Symbols that would be
/// temperatures without it are farads and coulombs behind it.
fn prefixed(name: &str) -> Option<Unit> {
    let (factor, rest) = match name.strip_prefix('μ') {
        Some(rest) => (RBig::from_parts(1.into(), 1_000_000u32.into()), rest),
        None => match name {
            "kOmega" => (RBig::from(1000), "Omega"),
            "MOmega" => (RBig::from(1_000_000), "Omega"),
            _ => {
                let lower = name.to_lowercase();
                let rest = lower.strip_prefix("micro")?;
                let mut unit = word(rest).or_else(|| word(rest.strip_suffix('s')?))?;
                unit.factor /= RBig::from(1_000_000);
                return Some(unit);
            }
        },
    };
    let mut unit = match rest {
        "F" => base("F"),
        "C" => base("C"),
        other => symbol(other)?,
    };
    unit.factor *= factor;
    Some(unit)
}

fn base(name: &str) -> Unit {
    Unit {
        factor: RBig::ONE,
        powers: vec![(name.to_owned(), 1)],
    }
}

/// Symbols, whose case matters; names in lower case and the singular; the factor; the base units. Months and
/// years have no fixed number of days, but a year has twelve months. A `unit` is a length of a figure without a
/// scale: the bare number says the same.
const UNITS: &str = "
    m | meter metre | 1 | m
    cm | centimeter centimetre | 1/100 | m
    mm | millimeter millimetre | 1/1000 | m
    dm |  | 1/10 | m
    km | kilometer kilometre | 1000 | m
    nm |  | 1/1000000000 | m
    in | inch inche | 254/10000 | m
    ft | foot feet | 3048/10000 | m
    yd | yard | 9144/10000 | m
    mi | mile | 1609344/1000 | m
    ha | hectare | 10000 | m^2
    | acre | 40468564224/10000000 | m^2
    L l | liter litre | 1/1000 | m^3
    mL ml | milliliter millilitre | 1/1000000 | m^3
    cL cl |  | 1/100000 | m^3
    dL dl |  | 1/10000 | m^3
    gal | gallon | 3785411784/1000000000000 | m^3
    | quart | 946352946/1000000000000 | m^3
    | pint | 473176473/1000000000000 | m^3
    s sec | second | 1 | s
    ms |  | 1/1000 | s
    min | minute | 60 | s
    h hr hrs | hour | 3600 | s
    | day | 86400 | s
    | week | 604800 | s
    | month | 1/12 | year
    | year yr | 1 | year
    g | gram | 1 | g
    kg | kilogram | 1000 | g
    mg | milligram | 1/1000 | g
    lb lbs | pound | 45359237/100000 | g
    oz | ounce | 45359237/1600000 | g
    | ton tonne | 1000000 | g
    mph |  | 1609344/3600000 | m s^-1
    kph kmh |  | 1000/3600 | m s^-1
    N | newton | 1000 | g m s^-2
    J | joule | 1000 | g m^2 s^-2
    kJ |  | 1000000 | g m^2 s^-2
    W | watt | 1000 | g m^2 s^-3
    kW |  | 1000000 | g m^2 s^-3
    Pa | pascal | 1000 | g m^-1 s^-2
    kPa |  | 1000000 | g m^-1 s^-2
    Hz | hertz | 1 | s^-1
    kHz |  | 1000 | s^-1
    K | kelvin | 1 | K
    C | celsiu celsius | 1 | celsius
    F | fahrenheit | 1 | fahrenheit
    A |  | 1 | A
    V |  | 1 | V
    Omega | ohm | 1 | Ω
    mol | mole | 1 | mol
    rad | radian | 1 | rad
    USD | dollar buck | 1 | USD
    EUR | euro | 1 | EUR
    GBP |  | 1 | GBP
    | degree deg | 1 | °
    | percent | 1 | %
    | cent penny pennie | 1/100 | USD
    | rupee | 1 | INR
    | yen | 1 | JPY
    | unit | 1 |
";

/// The units of the table, by symbol and by name.
static KNOWN: LazyLock<[HashMap<&str, Unit>; 2]> = LazyLock::new(|| {
    let mut known = [HashMap::new(), HashMap::new()];
    for line in UNITS.lines() {
        if let [symbols, names, factor, powers] = line.split('|').collect::<Vec<_>>()[..] {
            let number = |text: &str| text.trim().parse().unwrap_or(IBig::ONE);
            let (above, below) = factor.split_once('/').unwrap_or((factor, "1"));
            let power = |text: &str| {
                let (name, power) = text.split_once('^').unwrap_or((text, "1"));
                (name.to_owned(), power.parse().unwrap_or(1))
            };
            let unit = Unit {
                factor: RBig::from_parts_signed(number(above), number(below)),
                powers: powers.split_whitespace().map(power).collect(),
            };
            for (known, keys) in known.iter_mut().zip([symbols, names]) {
                known.extend(keys.split_whitespace().map(|key| (key, unit.clone())));
            }
        }
    }
    known
});

/// The unit with this symbol; case matters.
fn symbol(name: &str) -> Option<Unit> {
    KNOWN[0].get(name).cloned()
}

/// The unit with this name, in lower case and the singular.
fn word(name: &str) -> Option<Unit> {
    KNOWN[1].get(name).cloned()
}

/// What `million` and its relatives multiply by.
pub(crate) fn multiplier(name: &str) -> Option<i64> {
    Some(match name.to_lowercase().trim_end_matches('s') {
        "dozen" => 12,
        "hundred" => 100,
        "thousand" => 1000,
        "million" => 1_000_000,
        "billion" => 1_000_000_000,
        "trillion" => 1_000_000_000_000,
        _ => return None,
    })
}

/// Small numbers spelt out.
pub(crate) fn spelled(name: &str) -> Option<i64> {
    let names = "zero one two three four five six seven eight nine ten eleven twelve thirteen \
                 fourteen fifteen sixteen seventeen eighteen nineteen twenty";
    let lower = name.to_lowercase();
    let at = names.split(' ').position(|n| n == lower);
    at.map(|n| n as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_convert_exactly() {
        let value = |name: &str| Unit::named(name).unwrap();
        let km_per_h = value("km").times(&value("hours"), -1).unwrap();
        let m_per_s = value("m").times(&value("s"), -1).unwrap();
        assert!(km_per_h.converts_to(&m_per_s));
        assert_eq!(
            km_per_h.factor,
            RBig::from_parts_signed(5.into(), 18.into())
        );
        assert!(!value("inches").converts_to(&value("lb")));
        assert_eq!(value("feet").factor / value("inch").factor, RBig::from(12));
    }

    #[test]
    fn every_row_of_the_table_is_read() {
        for line in UNITS.lines().filter(|line| !line.is_empty()) {
            let [.., factor, powers] = line.split('|').collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            let parts: Vec<_> = factor.trim().split('/').map(str::parse::<u64>).collect();
            assert!(
                parts.len() <= 2 && parts.iter().all(Result::is_ok),
                "{line}"
            );
            assert!(powers.split_whitespace().is_sorted(), "{line}");
        }
        assert_eq!(KNOWN.each_ref().map(HashMap::len), [56, 62]);
    }

    #[test]
    fn counted_things_ignore_the_plural() {
        assert_eq!(Unit::counted("apples"), Unit::counted("Apple"));
        assert_eq!(Unit::counted("cherries"), Unit::counted("cherry"));
        assert_ne!(Unit::counted("apples"), Unit::counted("pears"));
    }
}
