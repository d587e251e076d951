package dataflow

import "fmt"

var rootFields = newObject(
	field[Descriptor]{"nodes", func(s scope, d *Descriptor, v *value) { d.Nodes = s.nodes(v) }},
	field[Descriptor]{"health_check_interval", func(s scope, d *Descriptor, v *value) {
		if t := s.seconds(v, false); t > 0 {
			d.HealthCheckInterval = t
		}
	}},
	field[Descriptor]{"strict_types", func(s scope, d *Descriptor, v *value) { d.StrictTypes = s.boolean(v) }},
	field[Descriptor]{"type_rules", func(s scope, d *Descriptor, v *value) { d.TypeRules = s.typeRules(v) }},
	field[Descriptor]{"exit_when_nodes_finish", func(s scope, d *Descriptor, v *value) {
		on := s.boolean(v)
		d.ExitWhenNodesFinish = &on
	}},
	field[Descriptor]{"env", func(s scope, d *Descriptor, v *value) { d.Env = s.env(v) }},
	field[Descriptor]{"deploy", func(s scope, d *Descriptor, v *value) { d.Deploy = s.deploy(v) }},
	field[Descriptor]{"_unstable_deploy", func(s scope, d *Descriptor, v *value) { d.Deploy = s.deploy(v) }},
	field[Descriptor]{"debug", func(s scope, d *Descriptor, v *value) { d.Debug = s.debug(v) }},
	field[Descriptor]{"_unstable_debug", func(s scope, d *Descriptor, v *value) { d.Debug = s.debug(v) }},
)

// descriptor reads the root of the document.
func (c *checker) descriptor(v *value) *Descriptor {
	d := &Descriptor{File: c.file, HealthCheckInterval: DefaultHealthCheckInterval}
	s := scope{checker: c}
	d.Keys = rootFields.into(s, d, v, "the dataflow")
	if v.kind == kindMap && !d.Keys.Has("nodes") {
		c.errorf(v.pos, CodeMissingKey, "add `nodes:` with a list of nodes", "missing field `nodes`")
	}
	s.bothSpellings(d.Keys, "deploy", "_unstable_deploy")
	s.bothSpellings(d.Keys, "debug", "_unstable_debug")
	for _, n := range d.Nodes {
		n.Env = mergeEnv(d.Env, n.Env)
		if n.Deploy == nil {
			n.Deploy = d.Deploy
		}
	}
	return d
}

// index makes the nodes known by their ids, which must differ.
func (c *checker) index(d *Descriptor) {
	d.byID = make(map[string]*Node, len(d.Nodes))
	for _, n := range d.Nodes {
		c.register(d, n)
	}
}

func (c *checker) register(d *Descriptor, n *Node) {
	if n.ID == "" {
		return
	}
	if first, twice := d.byID[n.ID]; twice {
		c.errorf(n.Keys.At("id"), CodeDuplicateID, "give every node an id of its own", "duplicate node ID `%s`; first in %s", excerpt(n.ID), first.Pos.line(n.Pos))
		return
	}
	d.byID[n.ID] = n
}

func (s scope) nodes(v *value) []*Node {
	var list []*Node
	for i, item := range s.list(v, "nodes") {
		list = append(list, s.node(item, i))
	}
	return list
}

// debugging is `debug`: one switch under two names.
type debugging struct{ on bool }

var debugFields = newObject(
	field[debugging]{"publish_all_messages_to_zenoh", func(s scope, d *debugging, v *value) { d.on = s.boolean(v) }},
	field[debugging]{"enable_debug_inspection", func(s scope, d *debugging, v *value) { d.on = s.boolean(v) }},
)

func (s scope) debug(v *value) bool {
	var d debugging
	s.owner = "`" + s.key + "`"
	keys := debugFields.into(s, &d, v, s.owner)
	s.bothSpellings(keys, "publish_all_messages_to_zenoh", "enable_debug_inspection")
	return d.on
}

var typeRuleFields = newObject(
	field[TypeRule]{"from", func(s scope, r *TypeRule, v *value) { r.From = s.nonEmpty(v) }},
	field[TypeRule]{"to", func(s scope, r *TypeRule, v *value) { r.To = s.nonEmpty(v) }},
)

func (s scope) typeRules(v *value) []TypeRule {
	var list []TypeRule
	for i, item := range s.list(v, "rules {from: type, to: type}") {
		r := TypeRule{Pos: item.pos}
		rs := scope{s.checker, fmt.Sprintf("type rule number %d", i+1), ""}
		keys := typeRuleFields.into(rs, &r, item, rs.owner)
		for _, key := range typeRuleFields.names {
			if item.kind == kindMap && !keys.Has(key) {
				s.errorf(item.pos, CodeMissingKey, "add `"+key+": <type>`", "%s has no `%s`", rs.owner, key)
			}
		}
		list = append(list, r)
	}
	return list
}
