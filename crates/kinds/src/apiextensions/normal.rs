//! The form in which definitions are kept: what Go's JSON leaves out because it is empty is not there.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinitionSpec, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
    JSONSchemaPropsOrStringArray, ValidationRule,
};

pub(super) fn form(spec: &mut CustomResourceDefinitionSpec) {
    drop_false(&mut spec.preserve_unknown_fields);
    drop_list(&mut spec.names.categories);
    drop_list(&mut spec.names.short_names);
    for version in &mut spec.versions {
        drop_list(&mut version.additional_printer_columns);
        drop_list(&mut version.selectable_fields);
        drop_false(&mut version.deprecated);
        for column in version.additional_printer_columns.iter_mut().flatten() {
            drop_text(&mut column.description);
            drop_text(&mut column.format);
            column.priority = column.priority.filter(|priority| *priority != 0);
        }
        if let Some(schema) = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
        {
            props(schema);
        }
    }
}

fn drop_text(text: &mut Option<String>) {
    if text.as_deref() == Some("") {
        *text = None;
    }
}

fn drop_false(flag: &mut Option<bool>) {
    if *flag == Some(false) {
        *flag = None;
    }
}

fn drop_list<T>(list: &mut Option<Vec<T>>) {
    if list.as_ref().is_some_and(Vec::is_empty) {
        *list = None;
    }
}

fn props(schema: &mut JSONSchemaProps) {
    for text in [
        &mut schema.id,
        &mut schema.schema,
        &mut schema.description,
        &mut schema.type_,
        &mut schema.format,
        &mut schema.title,
        &mut schema.pattern,
    ] {
        drop_text(text);
    }
    for flag in [
        &mut schema.exclusive_maximum,
        &mut schema.exclusive_minimum,
        &mut schema.unique_items,
        &mut schema.nullable,
        &mut schema.x_kubernetes_embedded_resource,
        &mut schema.x_kubernetes_int_or_string,
    ] {
        drop_false(flag);
    }
    drop_list(&mut schema.enum_);
    drop_list(&mut schema.required);
    drop_list(&mut schema.x_kubernetes_list_map_keys);
    drop_list(&mut schema.x_kubernetes_validations);
    schema.x_kubernetes_validations.iter_mut().flatten().for_each(rule);
    for parts in [&mut schema.all_of, &mut schema.any_of, &mut schema.one_of] {
        drop_list(parts);
        parts.iter_mut().flatten().for_each(props);
    }
    for map in [
        &mut schema.properties,
        &mut schema.pattern_properties,
        &mut schema.definitions,
    ] {
        if map.as_ref().is_some_and(std::collections::BTreeMap::is_empty) {
            *map = None;
        }
        map.iter_mut().flat_map(|map| map.values_mut()).for_each(props);
    }
    if let Some(not) = &mut schema.not {
        props(not);
    }
    for items in [&mut schema.items].into_iter().flatten() {
        match items {
            JSONSchemaPropsOrArray::Schema(one) => props(one),
            JSONSchemaPropsOrArray::Schemas(all) => all.iter_mut().for_each(props),
        }
    }
    for more in [&mut schema.additional_properties, &mut schema.additional_items]
        .into_iter()
        .flatten()
    {
        if let JSONSchemaPropsOrBool::Schema(schema) = more {
            props(schema);
        }
    }
    for dependency in schema.dependencies.iter_mut().flat_map(|all| all.values_mut()) {
        if let JSONSchemaPropsOrStringArray::Schema(schema) = dependency {
            props(schema);
        }
    }
}

fn rule(rule: &mut ValidationRule) {
    for text in [&mut rule.message, &mut rule.message_expression, &mut rule.field_path] {
        drop_text(text);
    }
}
