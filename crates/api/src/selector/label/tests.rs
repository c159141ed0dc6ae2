use expect_test::expect;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn parsing() {
    let texts = [
        "",
        "app=web",
        " app == web , tier!=db",
        "app in (b, a,a)",
        "app notin (a,)",
        "x in ()",
        "!old",
        "app",
        "in in (in,notin)",
        "a=,b",
        "n>3,m<4",
        "example.com/app=x",
        ",",
        "a,",
        "a=b=c",
        "a b",
        "a in b",
        "a in (b",
        "a in (b c)",
        "!",
        "a=(b)",
        "A_=x",
        "a=-",
        "n>x",
    ];
    let lines: Vec<String> = texts
        .iter()
        .map(|text| match Selector::parse(text) {
            Ok(selector) => format!("{text:?} -> {selector}"),
            Err(error) => format!("{text:?} !! {error}"),
        })
        .collect();
    expect![[r#"
        "" -> 
        "app=web" -> app=web
        " app == web , tier!=db" -> app=web,tier!=db
        "app in (b, a,a)" -> app in (a,b)
        "app notin (a,)" -> app notin (,a)
        "x in ()" -> x in ()
        "!old" -> !old
        "app" -> app
        "in in (in,notin)" -> in in (in,notin)
        "a=,b" -> a=,b
        "n>3,m<4" -> m<4,n>3
        "example.com/app=x" -> example.com/app=x
        "," !! found ',', expected: !, identifier, or 'end of string'
        "a," !! found '', expected: identifier after ','
        "a=b=c" !! found '=', expected: ',' or 'end of string'
        "a b" !! unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt
        "a in b" !! unable to parse requirement: found 'b' expected: '('
        "a in (b" !! unable to parse requirement: found '', expected: ',' or ')'
        "a in (b c)" !! unable to parse requirement: found 'c', expected: ',' or ')'
        "!" !! unable to parse requirement: found '', expected: identifier
        "a=(b)" !! unable to parse requirement: found '(', expected: identifier
        "A_=x" !! unable to parse requirement: <nil>: Invalid value: "A_": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        "a=-" !! unable to parse requirement: values[0][a]: Invalid value: "-": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
        "n>x" !! unable to parse requirement: values[0]: Invalid value: "x": for 'Gt', 'Lt' operators, the value must be an integer"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn matching() {
    let web = labels(&[("app", "web"), ("n", "5")]);
    let table = [
        ("", true),
        ("app=web", true),
        ("app=db", false),
        ("app!=db", true),
        ("missing!=x", true),
        ("app in (db,web)", true),
        ("app notin (db)", true),
        ("missing notin (db)", true),
        ("missing in (db)", false),
        ("app,!missing", true),
        ("n>4,n<6", true),
        ("n>5", false),
        ("app>1", false),
    ];
    for (text, expected) in table {
        assert_eq!(Selector::parse(text).unwrap().matches(&web), expected, "{text}");
    }
    assert!(!Selector::nothing().matches(&web));
    let json = json!({"app": "web"});
    assert!(Selector::parse("app=web").unwrap().matches(&json.as_object()));
    assert!(
        !Selector::parse("app=web")
            .unwrap()
            .matches(&None::<&Map<String, Value>>)
    );
}

#[test]
fn objects() {
    let read = |value: Value| {
        let object: LabelSelector = serde_json::from_value(value).unwrap();
        match Selector::from_object(&object, &Path::new("spec").child("selector")) {
            Ok(selector) => selector.to_string(),
            Err(errors) => errors.message(),
        }
    };
    let results = [
        read(json!({})),
        read(json!({"matchLabels": {"b": "1", "a": "2"}, "matchExpressions": [{"key": "c", "operator": "Exists"}]})),
        read(
            json!({"matchExpressions": [{"key": "c", "operator": "In"}, {"key": "d", "operator": "Gt", "values": ["1"]},
            {"key": "e", "operator": "Exists", "values": ["1"]}]}),
        ),
    ];
    expect![[r#"

        a=2,b=1,c
        [spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn', spec.selector.matchExpressions[1].operator: Invalid value: "Gt": not a valid selector operator, spec.selector.matchExpressions[2].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist']"#]]
    .assert_eq(&results.join("\n"));
}

fn requirement() -> impl Strategy<Value = String> {
    let (key, value) = ("[a-z]([a-z0-9]{0,5}[a-z0-9])?", "[A-Za-z0-9]{0,5}");
    prop_oneof![
        (key, "=|==|!=", value).prop_map(|(key, operator, value)| format!("{key}{operator}{value}")),
        (key, "in|notin", prop::collection::vec(value, 1..4))
            .prop_map(|(key, operator, values)| format!("{key} {operator} ({})", values.join(","))),
        (key, "!?").prop_map(|(key, not)| format!("{not}{key}")),
    ]
}

proptest! {
    #[test]
    fn printing_is_the_inverse_of_parsing(requirements in prop::collection::vec(requirement(), 0..5)) {
        let once = Selector::parse(&requirements.join(",")).unwrap();
        let twice = Selector::parse(&once.to_string()).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn a_requirement_and_its_negation_disagree(value in "[a-c]", has in prop::option::of("[a-c]")) {
        let labels: BTreeMap<String, String> = has.into_iter().map(|value| ("k".to_owned(), value)).collect();
        for (yes, no) in [(format!("k={value}"), format!("k!={value}")), ("k".to_owned(), "!k".to_owned()),
                          (format!("k in ({value},b)"), format!("k notin ({value},b)"))] {
            let (yes, no) = (Selector::parse(&yes).unwrap(), Selector::parse(&no).unwrap());
            prop_assert_ne!(yes.matches(&labels), no.matches(&labels));
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}") {
        let _ = Selector::parse(&text);
    }
}
