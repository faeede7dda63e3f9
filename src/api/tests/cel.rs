//! Expressions and their values, as Kubernetes' CEL has them.

use k3s_api::cel::{Activation, Environment, Error, PER_CALL_LIMIT, Type, Value};
use serde_json::json;

fn value(source: &str) -> Result<String, String> {
    let object =
        json!({"name": "web", "replicas": 3, "labels": {"app": "a"}, "list": [1, 2, 3], "ratio": 0.5, "none": null});
    let environment = Environment::new().with("object", Type::Dyn).with("n", Type::Int);
    let program = environment.compile(source).map_err(|issues| issues.to_string())?;
    let activation =
        Activation::new(PER_CALL_LIMIT).with("object", Value::of_json(&object, None)).with("n", Value::Int(7));
    let value = program.evaluate(&activation).map_err(|error| error.to_string())?;
    Ok(value.to_json().map_or_else(|| value.type_of().to_string(), |json| json.to_string()))
}

#[test]
fn expressions_have_their_values() {
    for (source, expected) in [
        ("1 + 2 * 3 - 7 % 4", "4"),
        ("n > 3 && object.replicas == 3", "true"),
        ("dyn(1) == 1.0 && dyn(1) == dyn(1u)", "true"),
        ("object.name.startsWith('w') ? 'yes' : 'no'", "\"yes\""),
        ("has(object.name) && !has(object.nothing)", "true"),
        ("has(object.none)", "true"),
        ("object.list.all(x, x > 0) && object.list.exists(x, x == 2) && object.list.exists_one(x, x == 3)", "true"),
        ("object.list.map(x, x * 2).filter(x, x > 2)", "[4,6]"),
        ("object.list.all(i, x, x == i + 1)", "true"),
        ("object.labels.transformMap(k, v, k + v)", "{\"app\":\"appa\"}"),
        ("[1, 2].transformList(i, v, i + v)", "[1,3]"),
        ("'a' in object.labels || 'app' in object.labels", "true"),
        ("{'a': [1], 'b': [2]}.b[0]", "2"),
        ("object.?nothing.orValue('x')", "\"x\""),
        ("optional.of(1).optMap(x, x + 1).value()", "2"),
        ("[1, ?optional.none(), 2].size()", "2"),
        ("object.labels[?'app'].hasValue()", "true"),
        ("false && 1 / 0 == 1", "false"),
        ("1 / 0 == 1 || true", "true"),
        ("[1, 0].exists(x, 1 / x == 1)", "true"),
        ("size('äö') + 'äö'.size()", "4"),
        ("int('12') + int(3.9)", "15"),
        ("string(1.5) + string(true) + string(2)", "\"1.5true2\""),
        ("duration('90m') == duration('1h30m')", "true"),
        ("timestamp('2024-03-01T10:20:30Z').getMonth()", "2"),
        ("timestamp('2024-03-01T00:00:00Z') - timestamp('2024-02-29T00:00:00Z') == duration('24h')", "true"),
        ("type(1) == int && type('') == string", "true"),
        ("'a,b,c'.split(',').join('-').upperAscii()", "\"A-B-C\""),
        ("'hello'.substring(1, 3) + 'hello'.charAt(4)", "\"elo\""),
        ("'hello'.indexOf('l') + 'hello'.lastIndexOf('l')", "5"),
        ("'%s is %d, %.2f, %x'.format(['a', 2, 1.5, 255])", "\"a is 2, 1.50, ff\""),
        ("'abc123'.matches('^[a-z]+\\\\d+$')", "true"),
        ("'a1b22'.findAll('[0-9]+')", "[\"1\",\"22\"]"),
        ("[3, 1, 2].isSorted() || [3, 1, 2].sum() == 6 && [3, 1, 2].max() == 3", "true"),
        ("[[1], [2, 3]].flatten().reverse()", "[3,2,1]"),
        ("[1, 1, 2].distinct().size() + lists.range(3).size()", "5"),
        ("sets.contains([1, 2, 3], [2]) && sets.equivalent([1, 2], [2, 1, 1])", "true"),
        ("quantity('1Gi').isGreaterThan(quantity('512Mi')) && isQuantity('1k')", "true"),
        ("quantity('500m').add(quantity('500m')).asInteger()", "1"),
        ("cidr('10.0.0.0/8').containsIP(ip('10.1.2.3')) && isIP('::1')", "true"),
        ("cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8')", "true"),
        (
            "url('https://a.example:80/p?q=1').getHost() + url('https://a.example:80/p?q=1').getPort()",
            "\"a.example:8080\"",
        ),
        ("semver('1.2.3').isLessThan(semver('1.10.0')) && isSemver('v1', true)", "true"),
        ("!format.dns1123Label().validate('abc').hasValue() && format.named('uuid').hasValue()", "true"),
        ("jsonpatch.escapeKey('a/b~c')", "\"a~1b~0c\""),
        ("b'abc' + bytes('d') == b'abcd'", "true"),
    ] {
        assert_eq!(value(source).as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn what_goes_wrong_is_told_as_cel_go_does() {
    for (source, expected) in [
        ("object.nothing == 1", "no such key: nothing"),
        ("object.list[9] == 1", "index out of bounds: 9"),
        ("n / 0 == 1", "division by zero"),
        ("n % 0 == 1", "modulus by zero"),
        ("9223372036854775807 + n > 0", "integer overflow"),
        ("object.name + object.replicas == ''", "no such overload"),
        ("optional.none().value() == 1", "optional.none() dereference"),
        (
            "n + 'a'",
            "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | n + 'a'\n | ..^",
        ),
        ("m > 1", "ERROR: <input>:1:1: undeclared reference to 'm' (in container '')\n | m > 1\n | ^"),
        ("n.foo", "ERROR: <input>:1:2: type 'int' does not support field selection\n | n.foo\n | .^"),
        ("[1, 'a']", "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^"),
        ("nope(1)", "ERROR: <input>:1:5: undeclared reference to 'nope' (in container '')\n | nope(1)\n | ....^"),
    ] {
        assert_eq!(value(source).unwrap_err(), expected, "{source}");
    }
    assert!(
        value("n +").unwrap_err().starts_with("ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting {")
    );
}

#[test]
fn an_evaluation_that_costs_too_much_ends() {
    let environment = Environment::new();
    let lists = "lists.range(1000).all(a, lists.range(1000).all(b, lists.range(1000).all(c, a + b + c >= 0)))";
    let program = environment.compile(lists).unwrap();
    assert_eq!(program.evaluate(&Activation::new(PER_CALL_LIMIT)).unwrap_err(), Error::Cost);
    let program = environment.compile("lists.range(9223372036854775807).size() > 0").unwrap();
    assert_eq!(program.evaluate(&Activation::new(PER_CALL_LIMIT)).unwrap_err(), Error::Cost);
}

#[test]
fn expressions_that_nest_too_deep_are_refused() {
    let environment = Environment::new().with("a", Type::Dyn);
    for source in [
        "(".repeat(100_000),
        "[".repeat(3_000),
        "a".to_owned() + &".a".repeat(3_000),
        "a".to_owned() + &"+a".repeat(3_000),
        "a".to_owned() + &"[a".repeat(1_000) + &"]".repeat(1_000),
        "a ? ".repeat(1_000),
        "x".repeat(200_000),
    ] {
        assert!(environment.compile(&source).is_err(), "{}", &source[..20]);
    }
}
