package dataflow

import (
	"fmt"
	"strings"
)

// The bridge itself is configured at run time; here its keys are read and the rules
// that need no ROS 2 are checked.

var ros2Fields = newObject(
	field[ROS2]{"transport", func(s scope, r *ROS2, v *value) { r.Transport = s.ros2Transport(v) }},
	field[ROS2]{"topic", func(s scope, r *ROS2, v *value) { r.Topic = s.ros2Name(v) }},
	field[ROS2]{"message_type", func(s scope, r *ROS2, v *value) { r.Type = s.ros2Type(v) }},
	field[ROS2]{"direction", func(s scope, r *ROS2, v *value) { r.Direction = s.choice(v, "subscribe", "publish") }},
	field[ROS2]{"topics", func(s scope, r *ROS2, v *value) { r.Topics = s.ros2Topics(v) }},
	field[ROS2]{"service", func(s scope, r *ROS2, v *value) { r.Service = s.ros2Name(v) }},
	field[ROS2]{"service_type", func(s scope, r *ROS2, v *value) { r.Type = s.ros2Type(v) }},
	field[ROS2]{"action", func(s scope, r *ROS2, v *value) { r.Action = s.ros2Name(v) }},
	field[ROS2]{"action_type", func(s scope, r *ROS2, v *value) { r.Type = s.ros2Type(v) }},
	field[ROS2]{"role", func(s scope, r *ROS2, v *value) { r.Role = s.choice(v, "client", "server") }},
	field[ROS2]{"qos", func(s scope, r *ROS2, v *value) { r.QoS = s.qos(v) }},
	field[ROS2]{"namespace", func(s scope, r *ROS2, v *value) { r.Namespace = s.nonEmpty(v) }},
	field[ROS2]{"node_name", func(s scope, r *ROS2, v *value) { r.NodeName = s.nonEmpty(v) }},
)

var ros2TopicFields = newObject(
	field[ROS2Topic]{"topic", func(s scope, t *ROS2Topic, v *value) { t.Topic = s.ros2Name(v) }},
	field[ROS2Topic]{"message_type", func(s scope, t *ROS2Topic, v *value) { t.MessageType = s.ros2Type(v) }},
	field[ROS2Topic]{"direction", func(s scope, t *ROS2Topic, v *value) { t.Direction = s.choice(v, "subscribe", "publish") }},
	field[ROS2Topic]{"output", func(s scope, t *ROS2Topic, v *value) { t.Output = s.id(v, CheckDataID) }},
	field[ROS2Topic]{"input", func(s scope, t *ROS2Topic, v *value) { t.Input = s.id(v, CheckDataID) }},
	field[ROS2Topic]{"qos", func(s scope, t *ROS2Topic, v *value) {
		q := s.qos(v)
		t.QoS = &q
	}},
)

var ros2TransportFields = newObject(
	field[ROS2Transport]{"kind", func(s scope, t *ROS2Transport, v *value) { t.Kind = s.choice(v, "dds", "zenoh") }},
	field[ROS2Transport]{"compatibility", func(s scope, t *ROS2Transport, v *value) { t.Compatibility = s.choice(v, "humble", "rep2016") }},
	field[ROS2Transport]{"config_uri", func(s scope, t *ROS2Transport, v *value) { t.ConfigURI = s.nonEmpty(v) }},
)

var qosFields = newObject(
	field[ROS2QoS]{"reliable", func(s scope, q *ROS2QoS, v *value) { q.Reliable = s.boolean(v) }},
	field[ROS2QoS]{"durability", func(s scope, q *ROS2QoS, v *value) { q.Durability = s.choice(v, "volatile", "transient_local") }},
	field[ROS2QoS]{"liveliness", func(s scope, q *ROS2QoS, v *value) {
		q.Liveliness = s.choice(v, "automatic", "manual_by_participant", "manual_by_topic")
	}},
	field[ROS2QoS]{"lease_duration", func(s scope, q *ROS2QoS, v *value) { q.LeaseDuration = s.seconds(v, true) }},
	field[ROS2QoS]{"max_blocking_time", func(s scope, q *ROS2QoS, v *value) { q.MaxBlockingTime = s.seconds(v, true) }},
	field[ROS2QoS]{"keep_last", func(s scope, q *ROS2QoS, v *value) { q.KeepLast = int(s.count(v, 1, 10_000)) }},
	field[ROS2QoS]{"keep_all", func(s scope, q *ROS2QoS, v *value) { q.KeepAll = s.boolean(v) }},
)

func (s scope) ros2(v *value) *ROS2 {
	r := &ROS2{Pos: v.pos, written: v, Transport: ROS2Transport{Kind: "dds"}, Direction: "subscribe", Namespace: "/"}
	s.owner = "`ros2` of " + s.owner
	before := s.made()
	defer func() { r.broken = s.made() > before }()
	r.Keys = ros2Fields.into(s, r, v, s.owner)
	if v.kind != kindMap {
		return r
	}
	var modes []string
	for _, key := range []string{"topic", "topics", "service", "action"} {
		if r.Keys.Has(key) {
			modes = append(modes, key)
		}
	}
	switch {
	case len(modes) == 0:
		s.errorf(v.pos, CodeROS2, "add `topic: /name`", "%s requires one of `topic`, `topics`, `service`, or `action`", s.owner)
	case len(modes) > 1:
		s.errorf(r.Keys.At(modes[1]), CodeROS2, "keep one of them", "%s has %s, of which only one is allowed", s.owner, quoteList(modes))
	default:
		s.ros2Mode(r, modes[0])
	}
	return r
}

// ros2Mode checks what each of topic, service and action needs beside it.
func (s scope) ros2Mode(r *ROS2, mode string) {
	need := map[string][]string{"topic": {"message_type"}, "service": {"service_type", "role"}, "action": {"action_type", "role"}}
	for _, key := range need[mode] {
		if !r.Keys.Has(key) {
			s.errorf(r.Keys.At(mode), CodeROS2, "add `"+key+":`", "%s with `%s` requires `%s`", s.owner, mode, key)
		}
	}
	for _, key := range []string{"message_type", "service_type", "action_type"} {
		if r.Keys.Has(key) && (mode == "topics" || !strings.HasPrefix(need[mode][0], key)) {
			s.errorf(r.Keys.At(key), CodeROS2, "remove it", "%s has `%s`, which does not go with `%s`", s.owner, key, mode)
		}
	}
}

func (s scope) ros2Topics(v *value) []ROS2Topic {
	var list []ROS2Topic
	items := s.list(v, "topics")
	if v.kind == kindSeq && (len(items) == 0 || len(items) > 64) {
		s.errorf(v.pos, CodeROS2, "", "%s has %d entries; 1 to 64 are allowed", s.of(), len(items))
	}
	for i, item := range items {
		t := ROS2Topic{Pos: item.pos, Direction: "subscribe"}
		ts := scope{s.checker, fmt.Sprintf("topic number %d of %s", i+1, s.owner), ""}
		keys := ros2TopicFields.into(ts, &t, item, ts.owner)
		for _, key := range []string{"topic", "message_type"} {
			if item.kind == kindMap && !keys.Has(key) {
				s.errorf(item.pos, CodeMissingKey, "add `"+key+":`", "%s has no `%s`", ts.owner, key)
			}
		}
		list = append(list, t)
	}
	return list
}

func (s scope) ros2Transport(v *value) ROS2Transport {
	t := ROS2Transport{Kind: "dds"}
	keys := ros2TransportFields.into(s, &t, v, s.of())
	if v.kind != kindMap {
		return t
	}
	switch {
	case !keys.Has("kind"):
		s.errorf(v.pos, CodeMissingKey, "add `kind: dds` or `kind: zenoh`", "%s has no `kind`", s.of())
	case t.Kind == "zenoh" && !keys.Has("compatibility"):
		s.errorf(v.pos, CodeMissingKey, "add `compatibility: humble` or `rep2016`", "%s of kind zenoh has no `compatibility`", s.of())
	}
	return t
}

func (s scope) qos(v *value) ROS2QoS {
	var q ROS2QoS
	qs := scope{s.checker, "`qos` of " + s.owner, ""}
	qosFields.into(qs, &q, v, qs.owner)
	return q
}

// ros2Name reads the name of a topic, service or action by the rules of
// https://design.ros2.org/articles/topic_and_service_names.html.
func (s scope) ros2Name(v *value) string {
	name := s.str(v)
	if v.kind != kindString {
		return ""
	}
	bad := ""
	switch {
	case name == "", name == "/":
		bad = "it is empty"
	case strings.Contains(name, "//"), strings.HasSuffix(name, "/"):
		bad = "it has an empty part"
	default:
		if r, found := badRune(name, "_/"); found {
			bad = fmt.Sprintf("it holds %q; letters, digits, `_` and `/` are allowed", r)
		}
		for _, part := range strings.Split(name, "/") {
			if part != "" && isDigit(part[0]) {
				bad = fmt.Sprintf("its part `%s` starts with a digit", excerpt(part))
			}
		}
	}
	if bad != "" {
		s.errorf(v.pos, CodeROS2, "", "invalid %s `%s`: %s", s.of(), excerpt(name), bad)
	}
	return name
}

// ros2Type reads `package/Name`.
func (s scope) ros2Type(v *value) string {
	name := s.str(v)
	if v.kind != kindString {
		return ""
	}
	pkg, typ, ok := strings.Cut(name, "/")
	if _, bad := badRune(pkg+typ, "_"); !ok || pkg == "" || typ == "" || bad {
		s.errorf(v.pos, CodeROS2, "write package/Name, for example std_msgs/String", "invalid %s `%s`", s.of(), excerpt(name))
	}
	return name
}

// checkROS2Ports checks that the ports exist which the bridge binds its topics to.
func (s scope) checkROS2Ports(n *Node) {
	if n.ROS2 == nil || n.ROS2.broken {
		return
	}
	for _, t := range n.ROS2.Topics {
		port := strings.ReplaceAll(strings.TrimLeft(t.Topic, "/"), "/", "_")
		switch {
		case t.Direction == "publish":
			if t.Input != "" {
				port = t.Input
			}
			if n.Input(port) == nil {
				s.errorf(t.Pos, CodeROS2, "add the input, or name another with `input:`", "%s publishes topic `%s` from input `%s`, which it does not have", s.owner, t.Topic, port)
			}
		default:
			if t.Output != "" {
				port = t.Output
			}
			if !n.HasOutput(port) {
				s.errorf(t.Pos, CodeROS2, "add the output, or name another with `output:`", "%s sends topic `%s` as output `%s`, which it does not have", s.owner, t.Topic, port)
			}
		}
	}
	r := n.ROS2
	publish := r.Topic != "" && r.Direction == "publish"
	both := r.Service != "" || r.Action != ""
	if (publish || both) && len(n.Inputs) == 0 {
		s.errorf(r.Pos, CodeROS2, "add an input", "%s: this ros2 bridge requires at least one input", s.owner)
	}
	if (r.Topic != "" && !publish || both) && len(n.Outputs) == 0 {
		s.errorf(r.Pos, CodeROS2, "add an output", "%s: this ros2 bridge requires at least one output", s.owner)
	}
}
