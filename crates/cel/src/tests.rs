//! Expressions, their values, their errors and their costs.

use serde_json::{Value as Json, json};

use crate::{Bindings, Budget, Decl, Env, ListSemantics, Program, Shape, Value, to_json};

fn schema() -> Decl {
    let text = || Decl::string(100);
    let item = Decl::object(
        "object",
        [
            ("name".to_owned(), text()),
            ("value".to_owned(), Decl::new(Shape::Int, 0, 1)),
        ],
        2,
    );
    Decl::object(
        "selfType",
        [
            ("replicas".to_owned(), Decl::new(Shape::Int, 0, 1)),
            ("ratio".to_owned(), Decl::new(Shape::Double, 0, 1)),
            ("name".to_owned(), text()),
            ("namespace".to_owned(), text()),
            ("with-dash".to_owned(), text()),
            ("since".to_owned(), Decl::new(Shape::Timestamp, 32, 21)),
            ("wait".to_owned(), Decl::new(Shape::Duration, 32, 3)),
            ("tags".to_owned(), Decl::list(text(), ListSemantics::Set, 10)),
            (
                "items".to_owned(),
                Decl::list(item, ListSemantics::Map(["name".to_owned()].into()), 10),
            ),
            ("labels".to_owned(), Decl::map(text(), 10)),
            ("any".to_owned(), Decl::dynamic()),
        ],
        2,
    )
}

fn object() -> Json {
    json!({
        "replicas": 3, "ratio": 1, "name": "web", "namespace": "ns", "with-dash": "-",
        "since": "2024-05-01T10:20:30Z", "wait": "1h30m",
        "tags": ["a", "b"], "items": [{"name": "x", "value": 1}, {"name": "y", "value": 2}],
        "labels": {"app": "web"}, "any": "10%",
    })
}

/// The value as JSON, or the error.
fn run(expression: &str) -> String {
    let env = Env::new().with("self", schema()).with_dyn("object");
    let program = match Program::compile(expression, &env) {
        Ok(program) => program,
        Err(error) => return error.to_string(),
    };
    let (decl, object) = (schema(), object());
    let bindings = Bindings::new()
        .with("self", Value::from_json(&object, &decl).unwrap())
        .with("object", Value::untyped(&object));
    match program.evaluate(&bindings, &mut Budget::default()) {
        Ok(value) => to_json(&value).map_or_else(|| format!("{value:?}"), |json| json.to_string()),
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn values() {
    let table = [
        ("1 + 2 * 3 - 4 / 2 % 3", "5"),
        ("1.5 + 2.0 == 3.5 && 7u / 2u == 3u", "true"),
        ("dyn(1) == 1.0 && 1 < 1.5 && 2u > 1", "true"),
        ("'a' + \"b\" + r'\\d'", r#""ab\\d""#),
        ("b'abc'.size() == 3 && size('äöü') == 3", "true"),
        ("self.replicas > 2 ? 'many' : 'few'", r#""many""#),
        ("self.ratio == 1.0 && type(self.ratio) == double", "true"),
        ("self.__namespace__ + self.with__dash__dash", r#""ns-""#),
        (
            "self.since.getFullYear() == 2024 && self.since.getMonth() == 4 && self.since.getDayOfWeek() == 3",
            "true",
        ),
        ("self.since + self.wait == timestamp('2024-05-01T11:50:30Z')", "true"),
        ("self.wait.getMinutes()", "90"),
        (
            "duration('90s') < duration('1h') && string(duration('1m30s')) == '90s'",
            "true",
        ),
        (
            "has(self.name) && !has(self.labels.other) && has(self.labels.app)",
            "true",
        ),
        (
            "self.items.all(i, i.value > 0) && self.items.exists(i, i.name == 'y')",
            "true",
        ),
        ("self.items.exists_one(i, i.value == 1)", "true"),
        ("self.items.map(i, i.name)", r#"["x","y"]"#),
        ("self.items.map(i, i.value > 1, i.name)", r#"["y"]"#),
        ("self.items.filter(i, i.value > 1).size()", "1"),
        (
            "self.labels.all(k, k == 'app') && 'app' in self.labels && !('b' in self.labels)",
            "true",
        ),
        ("self.tags == ['b', 'a']", "true"),
        (
            "self.items.map(i, i.value).sum() == 3 && [3, 1, 2].max() == 3 && [3, 1, 2].min() == 1",
            "true",
        ),
        (
            "[1, 2, 3].isSorted() && ![2, 1].isSorted() && [1, 2, 1].lastIndexOf(1) == 2",
            "true",
        ),
        ("[[1, 2], [3]].flatten()", "[1,2,3]"),
        (
            "[3, 1, 2].sort() + [1, 1].distinct() + lists.range(2) + [1, 2].reverse()",
            "[1,2,3,1,0,1,2,1]",
        ),
        ("self.items.sortBy(i, -i.value).map(i, i.name)", r#"["y","x"]"#),
        ("[1, 2, 3, 4].slice(1, 3)", "[2,3]"),
        ("['a', 'b'].all(i, v, i < 2 && v != '')", "true"),
        ("{'a': 1, 'b': 2}.exists(k, v, k == 'b' && v == 2)", "true"),
        (
            "{'a': 1, 'b': 2}.transformList(k, v, v > 1, k + string(v))",
            r#"["b2"]"#,
        ),
        ("['x', 'y'].transformMap(i, v, v + '!')[1]", r#""y!""#),
        ("{'a': 1}.transformMapEntry(k, v, {k + 'b': v})", r#"{"ab":1}"#),
        (
            "self.?labels.?app.orValue('none') + self.labels[?'b'].orValue('none')",
            r#""webnone""#,
        ),
        (
            "optional.of(2).optMap(x, x * 2).value() == 4 && !optional.none().hasValue()",
            "true",
        ),
        (
            "optional.none().optMap(x, x).hasValue() || optional.ofNonZeroValue(0).hasValue()",
            "false",
        ),
        ("[1, ?optional.none(), ?optional.of(2)] == [1, 2]", "true"),
        (
            "'hello'.charAt(1) + 'hello'.substring(1, 3) + ' x '.trim() + 'aBc'.lowerAscii()",
            r#""eelxabc""#,
        ),
        (
            "'a,b,c'.split(',') == ['a', 'b', 'c'] && 'a,b'.split(',', 1) == ['a,b']",
            "true",
        ),
        (
            "'hello hello'.replace('he', 'we', 1) == 'wello hello' && ['a', 'b'].join('-') == 'a-b'",
            "true",
        ),
        (
            "'hello'.indexOf('l') == 2 && 'hello'.lastIndexOf('l') == 3 && 'hello'.indexOf('l', 3) == 3",
            "true",
        ),
        (
            "'%s %d %.2f %x %b'.format(['a', 3, 1.5, 255, 5])",
            r#""a 3 1.50 ff 101""#,
        ),
        (
            "'abc 123'.find('[0-9]+') == '123' && 'a1b2'.findAll('[0-9]', 1) == ['1']",
            "true",
        ),
        ("'abc'.matches('^a.c$') && matches('abc', 'b')", "true"),
        (
            "url('https://u@example.com:80/a b?x=1&x=2#f').getHost() == 'example.com:80'",
            "true",
        ),
        (
            "url('https://example.com:80/a?x=1&x=2').getQuery() == {'x': ['1', '2']} && !isURL('../a')",
            "true",
        ),
        (
            "url('https://[::1]:80/').getHostname() == '::1' && url('https://a:80/').getPort() == '80'",
            "true",
        ),
        (
            "ip('10.0.0.1').family() == 4 && ip('::1').isLoopback() && isIP('1.2.3.4') && !isIP('1.2.3')",
            "true",
        ),
        (
            "ip.isCanonical('::1') && !ip.isCanonical('0:0:0:0:0:0:0:1') && string(ip('1.2.3.4')) == '1.2.3.4'",
            "true",
        ),
        (
            "cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')",
            "true",
        ),
        (
            "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('10.1.2.3/8').prefixLength() == 8",
            "true",
        ),
        (
            "cidr('10.1.2.3/8').ip() == ip('10.1.2.3') && string(cidr('10.1.2.3/8')) == '10.1.2.3/8'",
            "true",
        ),
        (
            "quantity('1Gi').isGreaterThan(quantity('500Mi')) && quantity('500m').asApproximateFloat() == 0.5",
            "true",
        ),
        (
            "quantity('2').add(1).asInteger() == 3 && quantity('1k').compareTo(quantity('1000')) == 0",
            "true",
        ),
        ("quantity('100m').isInteger() || isQuantity('1x')", "false"),
        (
            "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.0.0-rc.1').isLessThan(semver('1.0.0'))",
            "true",
        ),
        (
            "semver('v1.2', true).minor() == 2 && !isSemver('1.2') && semver('1.2.3').patch() == 3",
            "true",
        ),
        (
            "format.dns1123Label().validate('ok').hasValue() || !format.named('uuid').hasValue()",
            "false",
        ),
        ("format.dns1123Label().validate('Not Ok').value().size() > 0", "true"),
        (
            "sets.contains([1, 2, 3], [2]) && sets.intersects([1], [1, 2]) && sets.equivalent([1, 1], [1])",
            "true",
        ),
        (
            "int('12') + int(3.9) + int(4u) == 19 && double('1.5') == 1.5 && string(1.0) == '1'",
            "true",
        ),
        ("type(self.any) == string ? self.any.contains('%') : false", "true"),
        ("object.replicas + object.items.size()", "5"),
        ("object.?missing.?deeper.hasValue() || has(object.missing)", "false"),
        ("type(1) == int && type('') != int && type([]) == list", "true"),
        ("false && 1 / 0 == 1 || true", "true"),
        ("[0, 1].exists(x, 1 / x == 1)", "true"),
        ("timestamp('2024-01-01T00:00:00Z').getHours('America/New_York')", "19"),
    ];
    let wrong = table.iter().filter_map(|(expression, expected)| {
        let found = run(expression);
        (found != *expected).then(|| format!("{expression}\n  {found}\n"))
    });
    assert_eq!(wrong.collect::<String>(), "");
}

#[test]
fn failures() {
    let table = [
        ("1 / 0", "error: division by zero"),
        ("1 % 0", "error: modulus by zero"),
        ("9223372036854775807 + 1", "error: integer overflow"),
        ("self.labels['b']", "error: no such key: b"),
        ("self.labels.b", "error: no such key: b"),
        ("[1][3]", "error: index out of bounds: 3"),
        ("int('x')", r#"error: strconv.ParseInt: parsing "x": invalid syntax"#),
        (
            "'abc'.substring(2, 1)",
            "error: invalid substring range. start: 2, end: 1",
        ),
        ("'abc'.charAt(7)", "error: index out of range: 7"),
        ("[].max() == 1", "error: max called on empty list"),
        ("dyn(1) + dyn('a')", "error: no such overload"),
        ("[0, 2].all(x, 1 / x == 0)", "error: division by zero"),
        ("optional.none().value()", "error: optional.none() dereference"),
        (
            "lists.range(1000).map(a, lists.range(1000).map(b, a + b)).size()",
            "error: operation cancelled: actual cost limit exceeded",
        ),
    ];
    for (expression, expected) in table {
        assert_eq!(run(expression), expected, "{expression}");
    }
}

#[test]
fn refusals() {
    use expect_test::expect;
    let table = [
        "self.nope > 1",
        "foo == 1",
        "self.replicas == 'a'",
        "self.replicas + 'a' == 'b'",
        "nope(1)",
        "self.name.nope()",
        "1 +",
        "self.items.all(1, true)",
        "has(self)",
        "self.replicas.all(x, true)",
        "self.name.foo",
        "[1, 'a']",
        "duration('x') > duration('1s')",
        "self.name.matches('[')",
        "1 && true",
        "'a'\n  + 1",
        "T{}",
    ];
    let shown: Vec<String> = table.iter().map(|expression| run(expression)).collect();
    expect![[r#"
        ERROR: <input>:1:5: undefined field 'nope'
         | self.nope > 1
         | ....^
        ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')
         | foo == 1
         | ^
        ERROR: <input>:1:15: found no matching overload for '_==_' applied to '(int, string)'
         | self.replicas == 'a'
         | ..............^
        ERROR: <input>:1:15: found no matching overload for '_+_' applied to '(int, string)'
         | self.replicas + 'a' == 'b'
         | ..............^
        ERROR: <input>:1:5: undeclared reference to 'nope' (in container '')
         | nope(1)
         | ....^
        ERROR: <input>:1:15: undeclared reference to 'nope' (in container '')
         | self.name.nope()
         | ..............^
        ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}
         | 1 +
         | ...^
        ERROR: <input>:1:16: argument must be a simple name
         | self.items.all(1, true)
         | ...............^
        ERROR: <input>:1:5: invalid argument to has() macro
         | has(self)
         | ....^
        ERROR: <input>:1:5: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)
         | self.replicas.all(x, true)
         | ....^
        ERROR: <input>:1:10: type 'string' does not support field selection
         | self.name.foo
         | .........^
        ERROR: <input>:1:5: expected type 'int' but found 'string'
         | [1, 'a']
         | ....^
        ERROR: <input>:1:10: invalid duration argument
         | duration('x') > duration('1s')
         | .........^
        ERROR: <input>:1:19: invalid matches argument
         | self.name.matches('[')
         | ..................^
        ERROR: <input>:1:1: expected type 'bool' but found 'int'
         | 1 && true
         | ^
        ERROR: <input>:2:3: found no matching overload for '_+_' applied to '(string, int)'
         |   + 1
         | ..^
        ERROR: <input>:1:2: undeclared reference to 'T' (in container '')
         | T{}
         | .^"#]].assert_eq(&shown.join("\n"));
}

#[test]
fn costs() {
    use expect_test::expect;
    let env = Env::new().with("self", schema());
    let table = [
        "self.replicas > 1",
        "self.name == 'abc'",
        "self.items.all(i, i.name.size() > 1)",
        "self.items.all(i, self.items.all(j, i.name != j.name))",
        "self.tags.exists(t, t.contains('abc'))",
        "self.labels.all(k, self.labels[k].startsWith('a'))",
        "self.items.map(i, i.name).join(',').size() < 10",
        "self.name.matches('^[a-z]+$')",
        "self.name.replace('a', 'bb').split(',').size() > 1",
        "has(self.name) && self.name != ''",
    ];
    let lines: Vec<String> = table
        .iter()
        .map(|expression| {
            let program = Program::compile(expression, &env).unwrap();
            let (decl, object) = (schema(), object());
            let bindings = Bindings::new().with("self", Value::from_json(&object, &decl).unwrap());
            let mut budget = Budget::default();
            program.evaluate(&bindings, &mut budget).unwrap();
            let cost = program.cost();
            format!("{expression}: {}..{}, took {}", cost.min, cost.max, budget.last_cost())
        })
        .collect();
    expect![[r#"
        self.replicas > 1: 3..3, took 3
        self.name == 'abc': 3..3, took 3
        self.items.all(i, i.name.size() > 1): 3..73, took 12
        self.items.all(i, self.items.all(j, i.name != j.name)): 3..1763, took 21
        self.tags.exists(t, t.contains('abc')): 3..153, took 15
        self.labels.all(k, self.labels[k].startsWith('a')): 3..83, took 11
        self.items.map(i, i.name).join(',').size() < 10: 15..1844674407370955419, took 44
        self.name.matches('^[a-z]+$'): 4..24, took 4
        self.name.replace('a', 'bb').split(',').size() > 1: 4..64, took 6
        has(self.name) && self.name != '': 1..3, took 3"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn names_escape_and_back() {
    for (name, escaped) in [
        ("namespace", Some("__namespace__")),
        ("a-b.c/d", Some("a__dash__b__dot__c__slash__d")),
        ("a__b", Some("a__underscores__b")),
        ("plain", Some("plain")),
        ("1a", None),
        ("a b", None),
    ] {
        assert_eq!(crate::escape(name).as_deref(), escaped);
        if let Some(escaped) = escaped {
            assert_eq!(crate::unescape(escaped).as_deref(), Some(name));
        }
    }
}

proptest::proptest! {
    /// Whatever somebody writes: an answer or an error, never a panic.
    #[test]
    fn no_text_panics(text in "[a-z0-9.()\\[\\]{}?:!&|+*/%<>='\" \\-]{0,40}") {
        let _ = run(&text);
    }
}
