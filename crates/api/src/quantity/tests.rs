use expect_test::expect;
use proptest::prelude::*;

use super::*;

#[test]
fn canonical_forms() {
    let texts = [
        "0",
        "-0",
        "0.0Gi",
        "1",
        "+1",
        "1000",
        "1500",
        "0.5",
        "1.5",
        ".5",
        "5.",
        "100m",
        "1000m",
        "0.1m",
        "1n",
        "0.1n",
        "1u",
        "1k",
        "1024",
        "1024Ki",
        "1536Mi",
        "1.5Gi",
        "0.5Ki",
        "1000Ki",
        "1Ei",
        "100Ei",
        "1E",
        "1e3",
        "1E3",
        "1.5e3",
        "1e-3",
        "12345678901234567890123",
        "-1.5Gi",
        "0.30Mi",
        "2e0",
        "999999999999999999999n",
        "",
        "x",
        "1x",
        "1.2.3",
        ".",
        "-",
        "1 ",
        "1KI",
        "1e",
        "1ee3",
        "1e99",
        "1e-99",
    ];
    let lines: Vec<String> = texts
        .iter()
        .map(|text| match Quantity::parse(text) {
            Ok(quantity) => format!("{text} = {quantity}"),
            Err(error) => format!("{text} !! {error:?}"),
        })
        .collect();
    expect![[r#"
        0 = 0
        -0 = 0
        0.0Gi = 0
        1 = 1
        +1 = 1
        1000 = 1k
        1500 = 1500
        0.5 = 500m
        1.5 = 1500m
        .5 = 500m
        5. = 5
        100m = 100m
        1000m = 1
        0.1m = 100u
        1n = 1n
        0.1n = 1n
        1u = 1u
        1k = 1k
        1024 = 1024
        1024Ki = 1Mi
        1536Mi = 1536Mi
        1.5Gi = 1536Mi
        0.5Ki = 512
        1000Ki = 1000Ki
        1Ei = 1Ei
        100Ei = 9223372036854775807
        1E = 1E
        1e3 = 1e3
        1E3 = 1e3
        1.5e3 = 1500
        1e-3 = 1e-3
        12345678901234567890123 = 9223372036854775807
        -1.5Gi = -1536Mi
        0.30Mi = 314572800m
        2e0 = 2
        999999999999999999999n = 999999999999999999999n
         !! Format
        x !! Format
        1x !! Format
        1.2.3 !! Numeric
        . !! Numeric
        - !! Format
        1  !! Format
        1KI !! Format
        1e !! Suffix
        1ee3 !! Suffix
        1e99 = 9223372036854775807
        1e-99 = 1e-9"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn reading_rounds_up() {
    let parse = |text| Quantity::parse(text).unwrap();
    assert_eq!(
        (parse("100m").units(), parse("-100m").units(), parse("1500m").units()),
        (1, -1, 2)
    );
    assert_eq!(
        (parse("0.25").millis(), parse("1u").millis(), parse("1Ei").millis()),
        (250, 1, i64::MAX)
    );
    assert_eq!(Quantity::from_bytes(1 << 30).to_string(), "1Gi");
    assert_eq!((Quantity::ZERO + parse("1Mi") + parse("1M")).to_string(), "2048576");
    assert_eq!(
        [parse("1"), parse("500m")].into_iter().sum::<Quantity>(),
        parse("1500m")
    );
}

proptest! {
    #[test]
    fn printing_keeps_the_amount(number in "-?[0-9]{1,12}(\\.[0-9]{0,9})?", suffix in "|n|u|m|k|M|Ki|Mi|Gi|e3|E-3") {
        let quantity = Quantity::parse(&format!("{number}{suffix}")).unwrap();
        let printed = quantity.to_string();
        let again = Quantity::parse(&printed).unwrap();
        prop_assert_eq!(quantity, again);
        prop_assert_eq!(printed, again.to_string());
    }

    #[test]
    fn addition_is_exact_and_ordered(a in -(1_i64 << 40)..1 << 40, b in 0_i64..1 << 40) {
        let (x, y) = (Quantity::from_millis(a), Quantity::from_millis(b));
        prop_assert_eq!((x + y).millis(), a + b);
        prop_assert_eq!(x + y - y, x);
        prop_assert!(x <= x + y);
    }

    #[test]
    fn no_text_panics(text in "[-+.0-9a-zA-Zé ]{0,60}") {
        let _ = Quantity::parse(&text).map(|quantity| quantity.to_string());
    }
}
