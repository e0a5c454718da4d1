//! The libraries of Kubernetes and of cel-go's extensions, as they are documented.

use super::{holds, values};

#[test]
fn strings() {
    holds(&[
        "'hello'.contains('ell') && 'hello'.startsWith('he') && 'hello'.endsWith('lo')",
        "'hello'.charAt(1) == 'e' && 'hello'.charAt(5) == ''",
        "'hello mellow'.indexOf('ello', 2) == 7 && 'hello'.indexOf('') == 0 && 'a'.indexOf('b') == -1",
        "'hello mellow'.lastIndexOf('ello') == 7 && 'hello mellow'.lastIndexOf('ello', 6) == 1",
        "'TacoCat'.lowerAscii() == 'tacocat' && 'TacoCat'.upperAscii() == 'TACOCAT'",
        "'  a '.trim() == 'a'",
        "'tacocat'.substring(4) == 'cat' && 'tacocat'.substring(0, 4) == 'taco'",
        "'hello hello'.replace('he', 'we') == 'wello wello' && 'hello hello'.replace('he', 'we', 1) == 'wello hello'",
        "'ab'.replace('', '_') == '_a_b_'",
        "'a,b,c'.split(',') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c'] && 'a'.split(',', 0) == []",
        "'ab'.split('') == ['a', 'b']",
        "['a', 'b'].join() == 'ab' && ['a', 'b'].join('-') == 'a-b'",
        "strings.quote('a\"b\\n') == '\"a\\\\\"b\\\\n\"'",
        "'%s is %d, %.2f, %x, %b, %o, %e, %%'.format(['a', 1, 1.5, 255, 5, 8, 1234.5]) == 'a is 1, 1.50, ff, 101, 10, 1.234500e+03, %'",
        "'%s %s'.format([[1, 'a'], {'k': true}]) == '[1, a] {k: true}'",
    ]);
    values(&[
        ("'a'.charAt(2)", "error: index out of range: 2"),
        ("'ab'.substring(2, 1)", "error: invalid substring range. start: 2, end: 1"),
        ("'%s'.format([])", "error: index 0 out of range"),
        (
            "'%d'.format(['a'])",
            "error: error during formatting: decimal clause can only be used on integers, was given string",
        ),
    ]);
}

#[test]
fn lists_and_sets() {
    holds(&[
        "[1, 2, 2].isSorted() && !['b', 'a'].isSorted()",
        "[1, 2].sum() == 3 && [1.5, 2.0].sum() == 3.5 && [duration('1s'), duration('2s')].sum() == duration('3s')",
        "[3, 1, 2].min() == 1 && ['a', 'c'].max() == 'c'",
        "[1, 2, 2].indexOf(2) == 1 && [1, 2, 2].lastIndexOf(2) == 2 && [1].indexOf(3) == -1",
        "[1, 2, 3, 4].slice(1, 3) == [2, 3]",
        "[[1], [2, 3]].flatten() == [1, 2, 3] && [[[1]], [[2, 3]]].flatten(2) == [1, 2, 3]",
        "lists.range(3) == [0, 1, 2]",
        "[1, 2].reverse() == [2, 1] && [1, 2, 2, 1].distinct() == [1, 2]",
        "[3, 1, 2].sort() == [1, 2, 3]",
        "['ccc', 'a', 'bb'].sortBy(e, e.size()) == ['a', 'bb', 'ccc']",
        "sets.contains([1, 2, 3], [2, 1]) && !sets.contains([1], [2])",
        "sets.equivalent([1, 2, 2], [2, 1]) && sets.intersects([1], [1, 2]) && !sets.intersects([1], [2])",
    ]);
    values(&[
        ("[].min()", "error: min called on empty list"),
        ("[1, 2].slice(1, 3)", "error: cannot slice(1, 3), list is length 2"),
        ("lists.range(-1)", "error: lists.range: size must be non-negative, got -1"),
        ("lists.range(10000000)", "stopped: operation cancelled: actual cost limit exceeded"),
    ]);
}

#[test]
fn patterns() {
    holds(&[
        "'foobar'.matches('foo.*') && matches('a', '^a$') && 'xfoo'.matches('foo')",
        "'abc 123'.find('[0-9]+') == '123' && 'abc'.find('[0-9]+') == ''",
        "'123 abc 456'.findAll('[0-9]+') == ['123', '456'] && '1 2 3'.findAll('[0-9]', 1) == ['1']",
    ]);
}

#[test]
fn urls() {
    holds(&[
        "isURL('https://user:pass@example.com:80/path?query=val#fragment') && isURL('/absolute-path')",
        "!isURL('https://a:b:c/') && !isURL('../relative-path') && !isURL('')",
        "url('https://example.com:80/').getHost() == 'example.com:80' && url('https://[::1]:80/').getHostname() == '::1'",
        "url('https://[::1]/').getHost() == '[::1]' && url('https://example.com:80/').getPort() == '80'",
        "url('/path').getScheme() == '' && url('https://example.com/').getScheme() == 'https'",
        "url('https://example.com/path with spaces/').getEscapedPath() == '/path%20with%20spaces/'",
        "url('https://example.com').getEscapedPath() == ''",
        "url('https://example.com/path?k1=a&k2=b&k2=c').getQuery() == {'k1': ['a'], 'k2': ['b', 'c']}",
        "url('https://example.com/path?key with spaces=value with spaces').getQuery() == {'key with spaces': ['value with spaces']}",
    ]);
}

#[test]
fn addresses() {
    holds(&[
        "isIP('127.0.0.1') && isIP('::1') && !isIP('127.0.0.256') && !isIP(':::1') && !isIP('::ffff:1.2.3.4')",
        "ip('192.168.0.1').family() == 4 && ip('::1').family() == 6 && string(ip('::0')) == '::'",
        "ip.isCanonical('127.0.0.1') && !ip.isCanonical('2001:DB8::ABCD') && ip.isCanonical('2001:db8::abcd')",
        "ip('127.0.0.1').isLoopback() && ip('0.0.0.0').isUnspecified() && ip('fe80::1').isLinkLocalUnicast()",
        "ip('224.0.0.1').isLinkLocalMulticast() && ip('ff02::1').isLinkLocalMulticast()",
        "ip('192.168.0.1').isGlobalUnicast() && !ip('255.255.255.255').isGlobalUnicast()",
        "ip('127.0.0.1') == ip('127.0.0.1') && ip('127.0.0.1') != ip('10.0.0.1')",
        "isCIDR('192.168.0.0/24') && !isCIDR('192.168.0.0/33') && !isCIDR('192.168.0.0')",
        "cidr('192.168.0.0/24').containsIP('192.168.0.1') && !cidr('192.168.0.0/24').containsIP(ip('192.168.1.1'))",
        "cidr('192.168.0.0/16').containsCIDR('192.168.10.0/24') && !cidr('192.168.1.0/24').containsCIDR(cidr('192.168.0.0/16'))",
        "cidr('192.168.1.7/24').masked() == cidr('192.168.1.0/24') && cidr('192.168.0.1/24').ip() == ip('192.168.0.1')",
        "cidr('::1/128').prefixLength() == 128 && string(cidr('10.0.0.0/8')) == '10.0.0.0/8'",
    ]);
}

#[test]
fn quantities_and_versions() {
    holds(&[
        "isQuantity('1.3Gi') && isQuantity('-5m') && isQuantity('1e3') && !isQuantity('200Kb') && !isQuantity('')",
        "quantity('1Gi').compareTo(quantity('1024Mi')) == 0 && quantity('1Gi').isGreaterThan(quantity('1G'))",
        "quantity('50k').add(20) == quantity('50020') && quantity('50k').sub(quantity('20k')).asInteger() == 30000",
        "quantity('50000000G').isInteger() && !quantity('50m').isInteger() && quantity('50.703k').asApproximateFloat() == 50703.0",
        "quantity('-1').sign() == -1 && quantity('0').sign() == 0 && quantity('100m').isLessThan(quantity('1'))",
        "isSemver('1.0.0') && !isSemver('v1.0') && isSemver('v1.0', true) && isSemver('01.01.01', true) && !isSemver('1.0.0.0')",
        "semver('1.2.3').major() == 1 && semver('1.2.3').minor() == 2 && semver('1.2.3').patch() == 3",
        "semver('1.0.0-alpha').isLessThan(semver('1.0.0-alpha.1')) && semver('1.0.0-rc.1').isLessThan(semver('1.0.0'))",
        "semver('1.2.3').compareTo(semver('2.0.0')) == -1 && semver('1.0.0+a') == semver('1.0.0+b')",
        "semver('v1', true) == semver('1.0.0')",
    ]);
    values(&[
        ("quantity('50m').asInteger()", "error: cannot convert value to integer"),
        (
            "quantity('a')",
            "error: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
    ]);
}

#[test]
fn named_formats() {
    holds(&[
        "!format.dns1123Label().validate('my-label-name').hasValue()",
        "format.dns1123Label().validate('Upper').hasValue() && format.dns1035Label().validate('1a').hasValue()",
        "!format.dns1123Subdomain().validate('apiextensions.k8s.io').hasValue()",
        "!format.qualifiedName().validate('apiextensions.k8s.io/v1beta1').hasValue()",
        "!format.dns1123LabelPrefix().validate('my-label-prefix-').hasValue()",
        "!format.uri().validate('http://example.com').hasValue() && format.uri().validate('../a').hasValue()",
        "!format.uuid().validate('123e4567-e89b-12d3-a456-426614174000').hasValue()",
        "!format.byte().validate('aGVsbG8=').hasValue() && !format.date().validate('2021-01-01').hasValue()",
        "!format.datetime().validate('2021-01-01T00:00:00Z').hasValue() && format.labelValue().validate('-').hasValue()",
        "format.named('dns1123Label').value() == format.dns1123Label() && !format.named('unknown').hasValue()",
    ]);
}
