//! The expected values are what `sigs.k8s.io/yaml` makes of the same text.

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{documents, to_string};

fn read(text: &str) -> Value {
    let document = documents(text).next().expect("a document");
    document.unwrap_or_else(|error| panic!("{text:?}: {error}")).value
}

#[track_caller]
fn fails(text: &str, expected: &str) {
    let error = documents(text).find_map(Result::err).expect("an error").to_string();
    assert_eq!(error, expected, "{text:?}");
}

#[test]
fn plain_scalars() {
    let cases = [
        // Octal, hexadecimal and binary; a wrong octal digit makes a decimal float.
        (
            "0400 0644 0o17 0x1F 0X1f 0b101 -0b11 -0x10 +07 08 0_7",
            json!([256, 420, 15, 31, 31, 5, -3, -16, 7, 8, 7]),
        ),
        (
            "0 00 -0 +1 1_000 -1_0 12e03 1. .5 +.5 1.5 -1.5e-3 1e3 1E+3",
            json!([0, 0, 0, 1, 1000, -10, 12000, 1, 0.5, 0.5, 1.5, -0.0015, 1000, 1000]),
        ),
        (
            "9223372036854775807 9223372036854775808 -9223372036854775808",
            json!([
                9_223_372_036_854_775_807_i64,
                9_223_372_036_854_775_808_u64,
                -9_223_372_036_854_775_808_i64
            ]),
        ),
        (
            "y Y yes Yes YES on On ON true True TRUE",
            json!([true, true, true, true, true, true, true, true, true, true, true]),
        ),
        (
            "n N no No NO off Off OFF false False FALSE",
            json!([
                false, false, false, false, false, false, false, false, false, false, false
            ]),
        ),
        ("~ null Null NULL", json!([null, null, null, null])),
        // Near misses are strings.
        (
            "yEs tRUE nULL oN 0x 0o8 0b2 1e 1e400 . + -. 0x1p3 1_ _1 ++1 0b+1x <<",
            json!([
                "yEs", "tRUE", "nULL", "oN", "0x", "0o8", "0b2", "1e", "1e400", ".", "+", "-.", "0x1p3", 1, "_1",
                "++1", "0b+1x", "<<"
            ]),
        ),
        // Times, versions, addresses, numbers of base 60, quantities.
        (
            "2026-01-01 2026-01-01T00:00:00Z 1.2.3 10.0.0.1 1:20 190:20:30 12:30.5 100m 1Gi 8080/tcp",
            json!([
                "2026-01-01",
                "2026-01-01T00:00:00Z",
                "1.2.3",
                "10.0.0.1",
                "1:20",
                "190:20:30",
                "12:30.5",
                "100m",
                "1Gi",
                "8080/tcp"
            ]),
        ),
    ];
    for (words, expected) in cases {
        let text: String = words.split(' ').map(|word| format!("- {word}\n")).collect();
        assert_eq!(read(&text), expected, "{words}");
    }
}

#[test]
fn quotes_and_tags_decide() {
    assert_eq!(
        read("a: '0400'\nb: \"yes\"\nc: |\n  1\nd: >-\n  true\ne: ''\nf:\ng: \"\\u00e9\\x41\\n\"\n"),
        json!({"a": "0400", "b": "yes", "c": "1\n", "d": "true", "e": "", "f": null, "g": "éA\n"})
    );
    assert_eq!(
        read(
            "a: !!str 12\nb: !!int '0x10'\nc: !!float 3\nd: !!bool 'on'\ne: !!null ''\nf: !own 12\ng: !!binary aGk=\nh: ! 12\ni: !!timestamp 2026-01-01\nj: !<tag:yaml.org,2002:str> 1\nk: !!set {a: 1}\n"
        ),
        json!({"a": "12", "b": 16, "c": 3, "d": true, "e": null, "f": "12", "g": "hi", "h": "12", "i": "2026-01-01", "j": "1",
            "k": {"a": 1}})
    );
    fails("a: !!int x", "cannot decode !!str `x` as a !!int at line 1 column 4");
    fails("a: !!null x", "cannot decode !!str `x` as a !!null at line 1 column 4");
    fails(
        "a: !!binary '*'",
        "!!binary value contains invalid base64 data at line 1 column 4",
    );
}

#[test]
fn keys_become_text() {
    assert_eq!(
        read("1: a\n0x10: b\nyes: c\n1.5: d\n1e6: e\n2026-01-01: f\n'no': g\n1e-7: h\n16777217.0: i\n"),
        json!({"1": "a", "16": "b", "true": "c", "1.5": "d", "1e+06": "e", "2026-01-01": "f", "no": "g", "1e-07": "h",
            "1.6777216e+07": "i"})
    );
    fails("a: 1\n~: b\n", "a key must not be null at line 2 column 1");
    fails("? [a]\n: b\n", "a key must be a scalar at line 1 column 3");
}

#[test]
fn anchors_and_merges() {
    assert_eq!(
        read(
            "a: &x {k: 1, l: 2}\nb: *x\nc: {<<: *x, l: 3}\nd: {l: 3, <<: *x}\ne: {<<: [{k: 5}, *x]}\nf: [&s yes, *s]\n'<<': 1\n"
        ),
        json!({"a": {"k": 1, "l": 2}, "b": {"k": 1, "l": 2}, "c": {"k": 1, "l": 3}, "d": {"k": 1, "l": 2}, "e": {"k": 5, "l": 2},
            "f": [true, true], "<<": 1})
    );
    fails(
        "a: {<<: 1}",
        "a map merge requires a map or a sequence of maps as its value at line 1 column 5",
    );
    fails(
        "a: &x [*x]",
        "an alias stands inside its own anchor, or in another document at line 1 column 8",
    );
    fails(
        "a: &x 1\n---\nb: *x\n",
        "an alias stands inside its own anchor, or in another document at line 3 column 4",
    );
}

#[test]
fn duplicates_are_reported_merged_keys_are_not() {
    let body = documents("a: 1\nb: {c: [{d: 1, d: 2}]}\n1: x\n'1': y\na: 2\ne: &e {f: 1}\ng: {<<: *e, f: 2}\n").next();
    let body = body.expect("a document").expect("valid");
    assert_eq!(body.duplicates, ["b.c[0].d", "1", "a"]);
    assert_eq!(body.value["a"], 2);
}

#[test]
fn streams() {
    let all = |text| {
        documents(text)
            .map(|document| document.map(|body| body.value))
            .collect::<Result<Vec<_>, _>>()
    };
    assert_eq!(all(""), Ok(vec![]));
    assert_eq!(all("# nothing\n"), Ok(vec![]));
    assert_eq!(
        all("---\n---\na: 1\n...\n--- # two\nb: |\n  ---\n  x\n"),
        Ok(vec![Value::Null, json!({"a": 1}), json!({"b": "---\nx\n"})])
    );
    assert_eq!(all("\u{feff}a: 1\r\nb: 2\r\n"), Ok(vec![json!({"a": 1, "b": 2})]));
    assert_eq!(all("%YAML 1.1\n---\na: 1\n"), Ok(vec![json!({"a": 1})]));
    let mut broken = documents("a: 1\n---\nb: [\n---\nc: 3\n");
    assert!(broken.next().is_some_and(|first| first.is_ok()));
    assert!(broken.next().is_some_and(|second| second.is_err()));
    assert!(broken.next().is_none());
}

#[test]
fn errors_have_a_place() {
    fails("a: .nan", "a number must be finite at line 1 column 4");
    fails(
        "spec:\n  a: b: c\n",
        "mapping values are not allowed in this context at line 2 column 7",
    );
    fails(
        "spec:\n\ta: 1\n",
        "tabs disallowed within this context (block indentation) at line 2 column 2",
    );
    fails(
        "a: 1\nb: 'x\n",
        "while scanning a quoted scalar, found unexpected end of stream at line 2 column 4",
    );
}

#[test]
fn bounds() {
    assert!(documents(&"[".repeat(100_000)).any(|document| document.is_err()));
    let block: String = (0..1000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert!(documents(&block).any(|document| document.is_err()));
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..10 {
        let below = format!("*a{},", level - 1).repeat(10);
        bomb += &format!("a{level}: &a{level} [{below}]\n");
    }
    let error = documents(&bomb).find_map(Result::err).expect("an error");
    assert!(
        error
            .to_string()
            .starts_with("the document contains excessive aliasing"),
        "{error}"
    );
}

#[allow(clippy::needless_pass_by_value, reason = "a golden reads best in place")]
fn written(value: Value, expected: Expect) {
    expected.assert_eq(&to_string(&value).expect("text"));
}

#[test]
fn written_as_kubectl_writes() {
    written(
        json!({
            "apiVersion": "v1", "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z", "uid": "0aa1-2", "labels": {}, "n": null},
            "spec": {"containers": [{"args": ["-c", "echo a: b", "--", "x #y"], "image": "host/a:v1", "ports": [{"p": 80}]}], "e": []},
            "data": {"a": "l1\n  l2\n\nl3\n", "b": "no end\nhere", "c": "many\n\n\n", "d": " leading\nx", "tab": "a\tb", "cr": "a\r\nb"},
            "nested": [[1, [2]], []],
        }),
        expect![[r#"
            apiVersion: v1
            data:
              a: |
                l1
                  l2

                l3
              b: |-
                no end
                here
              c: |+
                many


              cr: "a\r\nb"
              d: " leading\nx"
              tab: "a\tb"
            metadata:
              creationTimestamp: "2026-01-01T00:00:00Z"
              labels: {}
              "n": null
              uid: 0aa1-2
            nested:
            - - 1
              - - 2
            - []
            spec:
              containers:
              - args:
                - -c
                - 'echo a: b'
                - --
                - 'x #y'
                image: host/a:v1
                ports:
                - p: 80
              e: []
        "#]],
    );
    written(
        json!([
            "0400",
            "yes",
            "1e3",
            "n",
            "~",
            "null",
            "",
            "1_000",
            "0x1F",
            "1:20",
            "2026-01-01",
            ".5",
            "+1",
            "<<",
            "=",
            "0o17",
            "1.2.3",
            "100m",
            "*",
            "{}",
            "- a",
            "-a",
            "a:",
            "a:b",
            "@x",
            "it's",
            "'q'",
            "\"q\"",
            "#c",
            "é",
            "\u{7}",
            "---",
            ".",
            "...",
            "true ",
            "inf",
            "%"
        ]),
        expect![[r#"
            - "0400"
            - "yes"
            - "1e3"
            - "n"
            - "~"
            - "null"
            - ""
            - "1_000"
            - "0x1F"
            - "1:20"
            - "2026-01-01"
            - ".5"
            - "+1"
            - "<<"
            - "="
            - "0o17"
            - 1.2.3
            - 100m
            - '*'
            - '{}'
            - '- a'
            - -a
            - 'a:'
            - a:b
            - '@x'
            - it's
            - '''q'''
            - '"q"'
            - '#c'
            - é
            - "\u0007"
            - '---'
            - .
            - '...'
            - 'true '
            - "inf"
            - '%'
        "#]],
    );
    written(
        json!("text"),
        expect![[r#"
        text
    "#]],
    );
    written(
        json!({}),
        expect![[r#"
        {}
    "#]],
    );
}

fn objects() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[ -~]{0,12}",
        "[\\-?:,\\[\\]{}#&*!|>'\"%@` \n\ta0.]{0,10}",
        "[0-9a-fxob_+\\-.:eE]{1,8}",
        "(y|n|yes|No|on|OFF|true|null|~|\\.inf|\\.NaN|<<|=|---)",
        ".{0,6}",
        "([a-z ]{0,4}\n){1,3}[a-z ]{0,4}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<f32>()
            .prop_filter("a fraction", |number| number.fract() != 0.0)
            .prop_map(|number| Value::from(f64::from(number))),
        text.clone().prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(text.clone(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

#[test]
fn a_key_that_its_escapes_make_long_reads_the_same() {
    let value = json!({ "\u{6}".repeat(250): { "\u{14}".repeat(499): [1] } });
    let text = to_string(&value).unwrap();
    assert_eq!(documents(&text).next().unwrap().unwrap().value, value, "{text}");
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(value in objects()) {
        let text = to_string(&value).unwrap();
        let all: Vec<_> = documents(&text).collect();
        prop_assert_eq!(all.len(), 1, "{}", text);
        let body = all.into_iter().next().unwrap().map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        prop_assert_eq!(&body.value, &value, "{}", text);
        prop_assert!(body.duplicates.is_empty());
    }

    #[test]
    fn nothing_panics(text in "[\\-?:,\\[\\]{}#&*!|>'\"%@` \n\ta0<y.]{0,60}") {
        let _ = documents(&text).count();
    }
}
