//! Units of measure, currencies and counted things.

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
        let entry = symbol(name)
            .or_else(|| word(&lower))
            .or_else(|| word(lower.strip_suffix('s')?))
            .or_else(|| word(lower.strip_suffix("es")?))?;
        Some(entry.into())
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
                let mut unit: Unit = word(rest).or_else(|| word(rest.strip_suffix('s')?))?.into();
                unit.factor /= RBig::from(1_000_000);
                return Some(unit);
            }
        },
    };
    let mut unit = match rest {
        "F" => base("F"),
        "C" => base("C"),
        other => symbol(other)?.into(),
    };
    unit.factor *= factor;
    Some(unit)
}

/// A factor as numerator and denominator, and powers of base units.
struct Entry(i64, i64, &'static [(&'static str, i32)]);

impl From<Entry> for Unit {
    fn from(entry: Entry) -> Self {
        Self {
            factor: RBig::from_parts_signed(IBig::from(entry.0), IBig::from(entry.1)),
            powers: entry.2.iter().map(|&(n, p)| (n.to_owned(), p)).collect(),
        }
    }
}

fn base(name: &str) -> Unit {
    Unit {
        factor: RBig::ONE,
        powers: vec![(name.to_owned(), 1)],
    }
}

const METRE: &[(&str, i32)] = &[("m", 1)];
const AREA: &[(&str, i32)] = &[("m", 2)];
const VOLUME: &[(&str, i32)] = &[("m", 3)];
const SECOND: &[(&str, i32)] = &[("s", 1)];
const GRAM: &[(&str, i32)] = &[("g", 1)];
const SPEED: &[(&str, i32)] = &[("m", 1), ("s", -1)];
const FORCE: &[(&str, i32)] = &[("g", 1), ("m", 1), ("s", -2)];
const ENERGY: &[(&str, i32)] = &[("g", 1), ("m", 2), ("s", -2)];
const POWER: &[(&str, i32)] = &[("g", 1), ("m", 2), ("s", -3)];
const PRESSURE: &[(&str, i32)] = &[("g", 1), ("m", -1), ("s", -2)];
const FREQUENCY: &[(&str, i32)] = &[("s", -1)];

/// Unit symbols; case matters.
fn symbol(name: &str) -> Option<Entry> {
    Some(match name {
        "m" => Entry(1, 1, METRE),
        "cm" => Entry(1, 100, METRE),
        "mm" => Entry(1, 1000, METRE),
        "dm" => Entry(1, 10, METRE),
        "km" => Entry(1000, 1, METRE),
        "nm" => Entry(1, 1_000_000_000, METRE),
        "in" => Entry(254, 10_000, METRE),
        "ft" => Entry(3048, 10_000, METRE),
        "yd" => Entry(9144, 10_000, METRE),
        "mi" => Entry(1_609_344, 1000, METRE),
        "ha" => Entry(10_000, 1, AREA),
        "L" | "l" => Entry(1, 1000, VOLUME),
        "mL" | "ml" => Entry(1, 1_000_000, VOLUME),
        "cL" | "cl" => Entry(1, 100_000, VOLUME),
        "dL" | "dl" => Entry(1, 10_000, VOLUME),
        "gal" => Entry(3_785_411_784, 1_000_000_000_000, VOLUME),
        "s" | "sec" => Entry(1, 1, SECOND),
        "ms" => Entry(1, 1000, SECOND),
        "min" => Entry(60, 1, SECOND),
        "h" | "hr" | "hrs" => Entry(3600, 1, SECOND),
        "g" => Entry(1, 1, GRAM),
        "kg" => Entry(1000, 1, GRAM),
        "mg" => Entry(1, 1000, GRAM),
        "lb" | "lbs" => Entry(45_359_237, 100_000, GRAM),
        "oz" => Entry(45_359_237, 1_600_000, GRAM),
        "mph" => Entry(1_609_344, 3_600_000, SPEED),
        "kph" | "kmh" => Entry(1000, 3600, SPEED),
        "N" => Entry(1000, 1, FORCE),
        "J" => Entry(1000, 1, ENERGY),
        "kJ" => Entry(1_000_000, 1, ENERGY),
        "W" => Entry(1000, 1, POWER),
        "kW" => Entry(1_000_000, 1, POWER),
        "Pa" => Entry(1000, 1, PRESSURE),
        "kPa" => Entry(1_000_000, 1, PRESSURE),
        "Hz" => Entry(1, 1, FREQUENCY),
        "kHz" => Entry(1000, 1, FREQUENCY),
        "K" => Entry(1, 1, &[("K", 1)]),
        "C" => Entry(1, 1, &[("celsius", 1)]),
        "F" => Entry(1, 1, &[("fahrenheit", 1)]),
        "A" => Entry(1, 1, &[("A", 1)]),
        "V" => Entry(1, 1, &[("V", 1)]),
        "Omega" => Entry(1, 1, &[("Ω", 1)]),
        "mol" => Entry(1, 1, &[("mol", 1)]),
        "rad" => Entry(1, 1, &[("rad", 1)]),
        "USD" => Entry(1, 1, &[("USD", 1)]),
        "EUR" => Entry(1, 1, &[("EUR", 1)]),
        "GBP" => Entry(1, 1, &[("GBP", 1)]),
        _ => return None,
    })
}

/// Unit names in lower case and the singular.
fn word(name: &str) -> Option<Entry> {
    Some(match name {
        "meter" | "metre" => Entry(1, 1, METRE),
        "centimeter" | "centimetre" => Entry(1, 100, METRE),
        "millimeter" | "millimetre" => Entry(1, 1000, METRE),
        "kilometer" | "kilometre" => Entry(1000, 1, METRE),
        "inch" | "inche" => Entry(254, 10_000, METRE),
        "foot" | "feet" => Entry(3048, 10_000, METRE),
        "yard" => Entry(9144, 10_000, METRE),
        "mile" => Entry(1_609_344, 1000, METRE),
        "hectare" => Entry(10_000, 1, AREA),
        "acre" => Entry(40_468_564_224, 10_000_000, AREA),
        "liter" | "litre" => Entry(1, 1000, VOLUME),
        "milliliter" | "millilitre" => Entry(1, 1_000_000, VOLUME),
        "gallon" => Entry(3_785_411_784, 1_000_000_000_000, VOLUME),
        "quart" => Entry(946_352_946, 1_000_000_000_000, VOLUME),
        "pint" => Entry(473_176_473, 1_000_000_000_000, VOLUME),
        "second" => Entry(1, 1, SECOND),
        "minute" => Entry(60, 1, SECOND),
        "hour" => Entry(3600, 1, SECOND),
        "day" => Entry(86_400, 1, SECOND),
        "week" => Entry(604_800, 1, SECOND),
        // Months and years have no fixed number of days, but a year has twelve months.
        "month" => Entry(1, 12, &[("year", 1)]),
        "year" | "yr" => Entry(1, 1, &[("year", 1)]),
        "gram" => Entry(1, 1, GRAM),
        "kilogram" => Entry(1000, 1, GRAM),
        "milligram" => Entry(1, 1000, GRAM),
        "pound" => Entry(45_359_237, 100_000, GRAM),
        "ounce" => Entry(45_359_237, 1_600_000, GRAM),
        "ton" | "tonne" => Entry(1_000_000, 1, GRAM),
        "newton" => Entry(1000, 1, FORCE),
        "joule" => Entry(1000, 1, ENERGY),
        "watt" => Entry(1000, 1, POWER),
        "pascal" => Entry(1000, 1, PRESSURE),
        "hertz" => Entry(1, 1, FREQUENCY),
        "kelvin" => Entry(1, 1, &[("K", 1)]),
        "celsiu" | "celsius" => Entry(1, 1, &[("celsius", 1)]),
        "fahrenheit" => Entry(1, 1, &[("fahrenheit", 1)]),
        "ohm" => Entry(1, 1, &[("Ω", 1)]),
        "mole" => Entry(1, 1, &[("mol", 1)]),
        "degree" | "deg" => Entry(1, 1, &[("°", 1)]),
        "percent" => Entry(1, 1, &[("%", 1)]),
        "radian" => Entry(1, 1, &[("rad", 1)]),
        "dollar" | "buck" => Entry(1, 1, &[("USD", 1)]),
        "cent" | "penny" | "pennie" => Entry(1, 100, &[("USD", 1)]),
        "euro" => Entry(1, 1, &[("EUR", 1)]),
        "rupee" => Entry(1, 1, &[("INR", 1)]),
        "yen" => Entry(1, 1, &[("JPY", 1)]),
        // Lengths of a figure without a scale: the bare number says the same.
        "unit" => Entry(1, 1, &[]),
        _ => return None,
    })
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
    const NAMES: [&str; 21] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
        "twenty",
    ];
    let lower = name.to_lowercase();
    NAMES.iter().position(|n| *n == lower).map(|n| n as i64)
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
    fn counted_things_ignore_the_plural() {
        assert_eq!(Unit::counted("apples"), Unit::counted("Apple"));
        assert_eq!(Unit::counted("cherries"), Unit::counted("cherry"));
        assert_ne!(Unit::counted("apples"), Unit::counted("pears"));
    }
}
