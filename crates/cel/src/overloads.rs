//! The functions there are, and for which types.
//!
//! One line each: name (with a leading dot if it is called on a value), id, parameters, result. `A` and `B` stand for any type.
//! The ids are the ones `cel-go` uses, because prices are fixed by id.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use crate::types::{Type, opaque};

/// One declaration of a function.
#[derive(Debug)]
pub(crate) struct Overload {
    pub(crate) id: &'static str,
    pub(crate) member: bool,
    /// Parameters; type variables are numbered from 0.
    pub(crate) params: Vec<Type>,
    pub(crate) result: Type,
    /// How many type variables there are.
    pub(crate) variables: u32,
}

/// All declarations of a function.
#[derive(Debug)]
pub(crate) struct FunctionDecl {
    pub(crate) name: &'static str,
    pub(crate) overloads: Vec<Overload>,
}

/// The function with a name.
pub(crate) fn function(name: &str) -> Option<&'static FunctionDecl> {
    static ALL: LazyLock<HashMap<&'static str, FunctionDecl>> = LazyLock::new(read);
    ALL.get(name)
}

fn read() -> HashMap<&'static str, FunctionDecl> {
    let mut all: HashMap<&'static str, FunctionDecl> = HashMap::new();
    let lines = DECLARATIONS.lines().chain(TEMPLATES.lines());
    for line in lines.map(str::trim).filter(|line| !line.is_empty()) {
        let (name, overload) = parse(line);
        let function = all.entry(name).or_insert_with(|| FunctionDecl {
            name,
            overloads: Vec::new(),
        });
        function.overloads.push(overload);
    }
    all
}

fn parse(line: &'static str) -> (&'static str, Overload) {
    let (name, rest) = line.split_once(' ').expect("the table has names");
    let (id, rest) = rest.split_once(" (").expect("the table has ids");
    let (params, result) = rest.split_once(") ").expect("the table has results");
    let mut variables = 0;
    let params = split(params)
        .into_iter()
        .map(|text| parse_type(text, &mut variables))
        .collect();
    let result = parse_type(result, &mut variables);
    let (name, member) = name.strip_prefix('.').map_or((name, false), |name| (name, true));
    let overload = Overload {
        id,
        member,
        params,
        result,
        variables,
    };
    (name, overload)
}

/// Splits at the commas that are in no angle bracket.
fn split(list: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (at, c) in list.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(list[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

fn parse_type(text: &str, variables: &mut u32) -> Type {
    let mut variable = |id: u32| {
        *variables = (*variables).max(id + 1);
        Type::Var(id)
    };
    match text {
        "A" => variable(0),
        "B" => variable(1),
        "dyn" => Type::Dyn,
        "null" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "url" => Type::Opaque(opaque::URL),
        "ip" => Type::Opaque(opaque::IP),
        "cidr" => Type::Opaque(opaque::CIDR),
        "quantity" => Type::Opaque(opaque::QUANTITY),
        "semver" => Type::Opaque(opaque::SEMVER),
        "format" => Type::Opaque(opaque::FORMAT),
        "authorizer" => Type::Opaque(opaque::AUTHORIZER),
        "pathcheck" => Type::Opaque(opaque::PATH_CHECK),
        "groupcheck" => Type::Opaque(opaque::GROUP_CHECK),
        "resourcecheck" => Type::Opaque(opaque::RESOURCE_CHECK),
        "decision" => Type::Opaque(opaque::DECISION),
        text => {
            let (outer, inner) = text
                .strip_suffix('>')
                .and_then(|text| text.split_once('<'))
                .expect("the table has known types");
            let mut inner = split(inner).into_iter().map(|text| parse_type(text, variables));
            let mut next = || inner.next().expect("the table has type parameters");
            match outer {
                "list" => Type::list(next()),
                "map" => {
                    let keys = next();
                    Type::map(keys, next())
                }
                "opt" => Type::optional(next()),
                "type" => Type::Type(Some(Arc::new(next()))),
                other => unreachable!("the table has the type {other}"),
            }
        }
    }
}

const DECLARATIONS: &str = "
_?_:_ conditional (bool, A, A) A
_&&_ logical_and (bool, bool) bool
_||_ logical_or (bool, bool) bool
!_ logical_not (bool) bool
@not_strictly_false not_strictly_false (bool) bool
_==_ equals (A, A) bool
_!=_ not_equals (A, A) bool
_+_ add_bytes (bytes, bytes) bytes
_+_ add_double (double, double) double
_+_ add_duration_duration (duration, duration) duration
_+_ add_duration_timestamp (duration, timestamp) timestamp
_+_ add_timestamp_duration (timestamp, duration) timestamp
_+_ add_int64 (int, int) int
_+_ add_list (list<A>, list<A>) list<A>
_+_ add_string (string, string) string
_+_ add_uint64 (uint, uint) uint
_/_ divide_double (double, double) double
_/_ divide_int64 (int, int) int
_/_ divide_uint64 (uint, uint) uint
_%_ modulo_int64 (int, int) int
_%_ modulo_uint64 (uint, uint) uint
_*_ multiply_double (double, double) double
_*_ multiply_int64 (int, int) int
_*_ multiply_uint64 (uint, uint) uint
-_ negate_double (double) double
-_ negate_int64 (int) int
_-_ subtract_double (double, double) double
_-_ subtract_duration_duration (duration, duration) duration
_-_ subtract_int64 (int, int) int
_-_ subtract_timestamp_duration (timestamp, duration) timestamp
_-_ subtract_timestamp_timestamp (timestamp, timestamp) duration
_-_ subtract_uint64 (uint, uint) uint
_[_] index_list (list<A>, int) A
_[_] index_map (map<A, B>, A) B
_[_] optional_list_index_int (opt<list<A>>, int) opt<A>
_[_] optional_map_index_value (opt<map<A, B>>, A) opt<B>
_[?_] list_optindex_optional_int (list<A>, int) opt<A>
_[?_] optional_list_optindex_optional_int (opt<list<A>>, int) opt<A>
_[?_] map_optindex_optional_value (map<A, B>, A) opt<B>
_[?_] optional_map_optindex_optional_value (opt<map<A, B>>, A) opt<B>
@in in_list (A, list<A>) bool
@in in_map (A, map<A, B>) bool
size size_bytes (bytes) int
.size bytes_size (bytes) int
size size_list (list<A>) int
.size list_size (list<A>) int
size size_map (map<A, B>) int
.size map_size (map<A, B>) int
size size_string (string) int
.size string_size (string) int
type type (A) type<A>
bool bool_to_bool (bool) bool
bool string_to_bool (string) bool
bytes bytes_to_bytes (bytes) bytes
bytes string_to_bytes (string) bytes
double double_to_double (double) double
double int64_to_double (int) double
double string_to_double (string) double
double uint64_to_double (uint) double
duration duration_to_duration (duration) duration
duration string_to_duration (string) duration
dyn to_dyn (A) dyn
int int64_to_int64 (int) int
int double_to_int64 (double) int
int duration_to_int64 (duration) int
int string_to_int64 (string) int
int timestamp_to_int64 (timestamp) int
int uint64_to_int64 (uint) int
string string_to_string (string) string
string bool_to_string (bool) string
string bytes_to_string (bytes) string
string double_to_string (double) string
string duration_to_string (duration) string
string int64_to_string (int) string
string timestamp_to_string (timestamp) string
string uint64_to_string (uint) string
timestamp timestamp_to_timestamp (timestamp) timestamp
timestamp int64_to_timestamp (int) timestamp
timestamp string_to_timestamp (string) timestamp
uint uint64_to_uint64 (uint) uint
uint double_to_uint64 (double) uint
uint int64_to_uint64 (int) uint
uint string_to_uint64 (string) uint
.contains contains_string (string, string) bool
.endsWith ends_with_string (string, string) bool
.startsWith starts_with_string (string, string) bool
matches matches (string, string) bool
.matches matches_string (string, string) bool
.getFullYear timestamp_to_year (timestamp) int
.getFullYear timestamp_to_year_with_tz (timestamp, string) int
.getMonth timestamp_to_month (timestamp) int
.getMonth timestamp_to_month_with_tz (timestamp, string) int
.getDayOfYear timestamp_to_day_of_year (timestamp) int
.getDayOfYear timestamp_to_day_of_year_with_tz (timestamp, string) int
.getDayOfMonth timestamp_to_day_of_month (timestamp) int
.getDayOfMonth timestamp_to_day_of_month_with_tz (timestamp, string) int
.getDate timestamp_to_day_of_month_1_based (timestamp) int
.getDate timestamp_to_day_of_month_1_based_with_tz (timestamp, string) int
.getDayOfWeek timestamp_to_day_of_week (timestamp) int
.getDayOfWeek timestamp_to_day_of_week_with_tz (timestamp, string) int
.getHours timestamp_to_hours (timestamp) int
.getHours timestamp_to_hours_with_tz (timestamp, string) int
.getHours duration_to_hours (duration) int
.getMinutes timestamp_to_minutes (timestamp) int
.getMinutes timestamp_to_minutes_with_tz (timestamp, string) int
.getMinutes duration_to_minutes (duration) int
.getSeconds timestamp_to_seconds (timestamp) int
.getSeconds timestamp_to_seconds_tz (timestamp, string) int
.getSeconds duration_to_seconds (duration) int
.getMilliseconds timestamp_to_milliseconds (timestamp) int
.getMilliseconds timestamp_to_milliseconds_with_tz (timestamp, string) int
.getMilliseconds duration_to_milliseconds (duration) int
optional.of optional_of (A) opt<A>
optional.ofNonZeroValue optional_ofNonZeroValue (A) opt<A>
optional.none optional_none () opt<A>
.value optional_value (opt<A>) A
.hasValue optional_hasValue (opt<A>) bool
.or optional_or_optional (opt<A>, opt<A>) opt<A>
.orValue optional_orValue_value (opt<A>, A) A
cel.@mapInsert @mapInsert_map_key_value (map<A, B>, A, B) map<A, B>
cel.@mapInsert @mapInsert_map_map (map<A, B>, map<A, B>) map<A, B>
.charAt string_char_at_int (string, int) string
.indexOf string_index_of_string (string, string) int
.indexOf string_index_of_string_int (string, string, int) int
.lastIndexOf string_last_index_of_string (string, string) int
.lastIndexOf string_last_index_of_string_int (string, string, int) int
.lowerAscii string_lower_ascii (string) string
.upperAscii string_upper_ascii (string) string
.replace string_replace_string_string (string, string, string) string
.replace string_replace_string_string_int (string, string, string, int) string
.split string_split_string (string, string) list<string>
.split string_split_string_int (string, string, int) list<string>
.substring string_substring_int (string, int) string
.substring string_substring_int_int (string, int, int) string
.trim string_trim (string) string
.format string_format (string, list<dyn>) string
strings.quote strings_quote (string) string
.join list_join (list<string>) string
.join list_join_string (list<string>, string) string
.indexOf list_a_index_of_int (list<A>, A) int
.lastIndexOf list_a_last_index_of_int (list<A>, A) int
.slice list_slice (list<A>, int, int) list<A>
.flatten list_flatten (list<list<A>>) list<A>
.flatten list_flatten_int (list<dyn>, int) list<dyn>
lists.range lists_range (int) list<int>
.reverse list_reverse (list<A>) list<A>
.distinct list_distinct (list<A>) list<A>
sets.contains list_sets_contains_list (list<A>, list<A>) bool
sets.equivalent list_sets_equivalent_list (list<A>, list<A>) bool
sets.intersects list_sets_intersects_list (list<A>, list<A>) bool
.find string_find_string (string, string) string
.findAll string_find_all_string (string, string) list<string>
.findAll string_find_all_string_int (string, string, int) list<string>
url string_to_url (string) url
isURL is_url_string (string) bool
.getScheme url_get_scheme (url) string
.getHost url_get_host (url) string
.getHostname url_get_hostname (url) string
.getPort url_get_port (url) string
.getEscapedPath url_get_escaped_path (url) string
.getQuery url_get_query (url) map<string, list<string>>
ip string_to_ip (string) ip
isIP is_ip (string) bool
ip.isCanonical ip_is_canonical (string) bool
.family ip_family (ip) int
.isUnspecified ip_is_unspecified (ip) bool
.isLoopback ip_is_loopback (ip) bool
.isLinkLocalMulticast ip_is_link_local_multicast (ip) bool
.isLinkLocalUnicast ip_is_link_local_unicast (ip) bool
.isGlobalUnicast ip_is_global_unicast (ip) bool
string ip_to_string (ip) string
cidr string_to_cidr (string) cidr
isCIDR is_cidr (string) bool
.containsIP cidr_contains_ip_string (cidr, string) bool
.containsIP cidr_contains_ip_ip (cidr, ip) bool
.containsCIDR cidr_contains_cidr_string (cidr, string) bool
.containsCIDR cidr_contains_cidr (cidr, cidr) bool
.ip cidr_ip (cidr) ip
.prefixLength cidr_prefix_length (cidr) int
.masked cidr_masked (cidr) cidr
string cidr_to_string (cidr) string
quantity string_to_quantity (string) quantity
isQuantity is_quantity_string (string) bool
sign quantity_sign (quantity) int
.sign quantity_sign (quantity) int
.isGreaterThan quantity_is_greater_than (quantity, quantity) bool
.isLessThan quantity_is_less_than (quantity, quantity) bool
.compareTo quantity_compare_to (quantity, quantity) int
.asApproximateFloat quantity_get_float (quantity) double
.asInteger quantity_get_int (quantity) int
.isInteger quantity_is_integer (quantity) bool
.add quantity_add (quantity, quantity) quantity
.add quantity_add_int (quantity, int) quantity
.sub quantity_sub (quantity, quantity) quantity
.sub quantity_sub_int (quantity, int) quantity
semver string_to_semver (string) semver
semver string_bool_to_semver (string, bool) semver
isSemver is_semver_string (string) bool
isSemver is_semver_string_bool (string, bool) bool
.isGreaterThan semver_is_greater_than (semver, semver) bool
.isLessThan semver_is_less_than (semver, semver) bool
.compareTo semver_compare_to (semver, semver) int
.major semver_major (semver) int
.minor semver_minor (semver) int
.patch semver_patch (semver) int
.validate format-validate (format, string) opt<list<string>>
format.named format-named (string) opt<format>
format.dns1123Label format-dns1123Label () format
format.dns1123Subdomain format-dns1123Subdomain () format
format.dns1035Label format-dns1035Label () format
format.qualifiedName format-qualifiedName () format
format.dns1123LabelPrefix format-dns1123LabelPrefix () format
format.dns1123SubdomainPrefix format-dns1123SubdomainPrefix () format
format.dns1035LabelPrefix format-dns1035LabelPrefix () format
format.labelValue format-labelValue () format
format.uri format-uri () format
format.uuid format-uuid () format
format.byte format-byte () format
format.date format-date () format
format.datetime format-datetime () format
.path authorizer_path (authorizer, string) pathcheck
.group authorizer_group (authorizer, string) groupcheck
.serviceAccount authorizer_serviceaccount (authorizer, string, string) authorizer
.resource groupcheck_resource (groupcheck, string) resourcecheck
.subresource resourcecheck_subresource (resourcecheck, string) resourcecheck
.namespace resourcecheck_namespace (resourcecheck, string) resourcecheck
.name resourcecheck_name (resourcecheck, string) resourcecheck
.check pathcheck_check (pathcheck, string) decision
.check resourcecheck_check (resourcecheck, string) decision
.errored decision_errored (decision) bool
.error decision_error (decision) string
.allowed decision_allowed (decision) bool
.reason decision_reason (decision) string
.fieldSelector authorizer_fieldselector (resourcecheck, string) resourcecheck
.labelSelector authorizer_labelselector (resourcecheck, string) resourcecheck
";

/// The declarations that exist once for each of several types.
static TEMPLATES: LazyLock<String> = LazyLock::new(|| {
    use std::fmt::Write as _;
    let mut lines = String::new();
    let compared = [
        ("less", "_<_"),
        ("less_equals", "_<=_"),
        ("greater", "_>_"),
        ("greater_equals", "_>=_"),
    ];
    let pairs = [
        ("bool", "bool", "bool"),
        ("int64", "int", "int"),
        ("int64_double", "int", "double"),
        ("int64_uint64", "int", "uint"),
        ("uint64", "uint", "uint"),
        ("uint64_double", "uint", "double"),
        ("uint64_int64", "uint", "int"),
        ("double", "double", "double"),
        ("double_int64", "double", "int"),
        ("double_uint64", "double", "uint"),
        ("string", "string", "string"),
        ("bytes", "bytes", "bytes"),
        ("timestamp", "timestamp", "timestamp"),
        ("duration", "duration", "duration"),
    ];
    for (name, operator) in compared {
        for (suffix, left, right) in pairs {
            let _ = writeln!(lines, "{operator} {name}_{suffix} ({left}, {right}) bool");
        }
    }
    let comparable = [
        "int",
        "uint",
        "double",
        "bool",
        "duration",
        "timestamp",
        "string",
        "bytes",
    ];
    for ty in comparable {
        let _ = writeln!(lines, ".isSorted list_{ty}_is_sorted_bool (list<{ty}>) bool");
        let _ = writeln!(lines, ".max list_{ty}_max_{ty} (list<{ty}>) {ty}");
        let _ = writeln!(lines, ".min list_{ty}_min_{ty} (list<{ty}>) {ty}");
        let _ = writeln!(lines, ".sort list_{ty}_sort (list<{ty}>) list<{ty}>");
        let _ = writeln!(
            lines,
            ".@sortByAssociatedKeys list_{ty}_sortByAssociatedKeys (list<A>, list<{ty}>) list<A>"
        );
    }
    for ty in ["int", "uint", "double", "duration"] {
        let _ = writeln!(lines, ".sum list_{ty}_sum_{ty} (list<{ty}>) {ty}");
    }
    lines
});
