use proptest::prelude::*;

use super::*;

#[test]
fn quantities_are_read_and_written_as_upstream_does() {
    let rows = [
        ("0", "0"),
        ("100m", "100m"),
        ("0.1", "100m"),
        ("1000m", "1"),
        ("1.5", "1500m"),
        (".5", "500m"),
        ("5.", "5"),
        ("128Mi", "128Mi"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        ("1Ki", "1Ki"),
        ("1025Ki", "1025Ki"),
        ("1000k", "1M"),
        ("1500k", "1500k"),
        ("12e6", "12e6"),
        ("1e3", "1e3"),
        ("1E", "1E"),
        ("1E2", "100"),
        ("-1", "-1"),
        ("+2", "2"),
        ("1n", "1n"),
        ("0.1n", "1n"),
        ("-0.1n", "-1n"),
        ("9223372036854775807", "9223372036854775807"),
        ("9223372036854775808", "9223372036854775807"),
        ("8Ei", "9223372036854775807"),
        ("7Ei", "7Ei"),
        ("100E", "9223372036854775807"),
        ("0.0000000000000000000000000000000000000000000000001", "1n"),
    ];
    for (text, canonical) in rows {
        let quantity: Quantity = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(quantity.to_string(), canonical, "{text}");
    }
    for text in ["", "-", "1.2.3", "x", "1x", "1 Gi", "1e", "1ki", "1mi", "--1", "1Gii"] {
        assert!(text.parse::<Quantity>().is_err(), "{text}");
    }
}

#[test]
fn values_are_rounded_up() {
    let rows = [("1500m", 2, 1500), ("100m", 1, 100), ("1n", 1, 1), ("-1500m", -2, -1500), ("2Ki", 2048, 2_048_000)];
    for (text, value, milli) in rows {
        let quantity: Quantity = text.parse().unwrap();
        assert_eq!((quantity.value(), quantity.milli_value()), (value, milli), "{text}");
    }
    assert_eq!("1n".parse::<Quantity>().unwrap().rounded_to_milli().to_string(), "1m");
}

proptest! {
    #[test]
    fn the_canonical_form_means_the_same(units in -1_000_000_000i64..1_000_000_000, suffix in "(|n|u|m|k|M|G|Ki|Mi|Gi|e3|e-3)") {
        let quantity: Quantity = format!("{units}{suffix}").parse().unwrap();
        let again: Quantity = quantity.to_string().parse().unwrap();
        prop_assert_eq!(quantity, again);
        prop_assert_eq!(again.to_string(), quantity.to_string());
    }

    #[test]
    fn sums_are_exact(a in -1_000_000i64..1_000_000, b in -1_000_000i64..1_000_000) {
        let (qa, qb) = (Quantity::from_milli(a, Format::DecimalSi), Quantity::from_milli(b, Format::BinarySi));
        prop_assert_eq!((qa + qb).milli_value(), a + b);
        prop_assert_eq!((qa - qb).milli_value(), a - b);
        prop_assert_eq!(qa.cmp(&qb), a.cmp(&b));
    }

    #[test]
    fn amounts_are_read_exactly(whole in 0..100_000_i128, fraction in "[0-9]{0,9}", suffix in 0..16_usize, negative: bool) {
        let known = [
            ("n", 10, -9), ("u", 10, -6), ("m", 10, -3), ("", 10, 0), ("k", 10, 3), ("M", 10, 6), ("G", 10, 9),
            ("T", 10, 12), ("e3", 10, 3), ("E-3", 10, -3), ("e+02", 10, 2), ("Ki", 2, 10), ("Mi", 2, 20),
            ("Gi", 2, 30), ("Ti", 2, 40), ("e0", 10, 0),
        ];
        let (suffix, base, exponent): (&str, i128, i32) = known[suffix];
        let sign = if negative { "-" } else { "" };
        let quantity: Quantity = format!("{sign}{whole}.{fraction}{suffix}").parse().unwrap();
        // In units of 10^-18, where all of these are whole.
        let digits: i128 = format!("{whole}{fraction:0<9}").parse().unwrap();
        let scaled = digits * if exponent < 0 { 10_i128.pow((9 + exponent).unsigned_abs()) } else {
            base.pow(exponent.unsigned_abs()) * 1_000_000_000
        };
        let nanos = (scaled + NANO - 1) / NANO;
        prop_assert_eq!(quantity.nanos, if negative { -nanos } else { nanos });
    }

    #[test]
    fn quantities_are_ordered_and_added_as_numbers(a: i64, b: i64, c: i64, formats in prop::array::uniform3(0..3_usize)) {
        let of = |milli: i64, format: usize| {
            Quantity::from_milli(milli, [Format::DecimalSi, Format::BinarySi, Format::DecimalExponent][format])
        };
        let (qa, qb, qc) = (of(a, formats[0]), of(b, formats[1]), of(c, formats[2]));
        prop_assert_eq!(qa.cmp(&qb), a.cmp(&b));
        prop_assert_eq!(qa + qb, qb + qa);
        prop_assert_eq!((qa + qb) + qc, qa + (qb + qc));
        prop_assert_eq!((qa + qb) - qb, qa);
        prop_assert_eq!((qa - qb).cmp(&Quantity::ZERO), a.cmp(&b));
        prop_assert!(qa.rounded_to_milli() == qa && i128::from(qa.value()) * 1000 * a.signum() as i128 >= i128::from(a.unsigned_abs()));
    }

    /// The canonical form is the shortest with a suffix: the number in it has no zeros that a suffix could say.
    #[test]
    fn any_text_is_an_amount_or_none(text in "[-+]?[0-9]{0,22}[.]?[0-9]{0,12}([a-zA-Z]{0,2}|[eE][-+]?[0-9]{1,3})|\\PC{0,12}") {
        let Ok(quantity) = text.parse::<Quantity>() else { return Ok(()) };
        let canonical = quantity.to_string();
        let again: Quantity = canonical.parse().unwrap();
        // Without a suffix an amount is a decimal one, whatever it was, as upstream has it.
        let settled: Quantity = again.to_string().parse().unwrap();
        prop_assert_eq!(settled.to_string(), again.to_string(), "{}", text);
        prop_assert!(again.to_string() == canonical || quantity.format == Format::BinarySi, "{text}");
        // Binary amounts with a fraction are written rounded up to whole units, as upstream does.
        let is_whole = quantity.nanos % NANO == 0;
        prop_assert!(again == quantity || (quantity.format == Format::BinarySi && !is_whole), "{text}");
        prop_assert!(!canonical.contains('.'));
        let digits = canonical.trim_start_matches('-').find(|c: char| !c.is_ascii_digit());
        let number = &canonical.trim_start_matches('-')[..digits.unwrap_or(canonical.trim_start_matches('-').len())];
        let largest = ["E", "e18", "Ei"].iter().any(|largest| canonical.ends_with(largest));
        let decimal = quantity.format != Format::BinarySi;
        prop_assert!(!decimal || largest || number == "0" || !number.ends_with("000"), "{text}: {canonical}");
    }
}
