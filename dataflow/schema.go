package dataflow

import (
	"encoding/json"
	"fmt"

	"github.com/dora-go/dora/dataflow/types"
)

// schema is a part of a JSON Schema.
type schema map[string]any

// Schema is the JSON Schema (draft 2020-12) of dataflow files, for editors that complete
// and check. Its keys are those of the tables that files are read with. What needs more
// than one key or file (wiring, types, modules) only Load can check.
func Schema() ([]byte, error) {
	doc := mapping(rootFields, rootKeys, "nodes")
	doc["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	doc["title"] = "dora dataflow"
	doc["$defs"] = schema{
		"node": mapping(nodeFields, nodeKeys, "id"), "operator": mapping(operatorFields, operatorKeys), "input": inputSchema(),
		"deploy": mapping(deployFields, deployKeys), "debug": mapping(debugFields, debugKeys), "ros2": mapping(ros2Fields, ros2Keys),
		"qos": mapping(qosFields, qosKeys), "env": envSchema(),
	}
	return json.MarshalIndent(doc, "", "  ")
}

// mapping describes a mapping; every key of the table has a schema.
func mapping[T any](o *object[T], keys map[string]schema, required ...string) schema {
	props := schema{}
	for _, name := range o.names {
		s, ok := keys[name]
		if !ok {
			panic(fmt.Sprintf("the key %q has no schema", name)) // a test asks for all of them
		}
		props[name] = orNothing(s)
	}
	out := schema{"type": "object", "additionalProperties": false, "properties": props}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

// orNothing allows a key without a value, which counts as not written.
func orNothing(s schema) schema {
	out := schema{"anyOf": []schema{s, {"type": "null"}}}
	if d, ok := s["description"]; ok {
		out["description"] = d
		inner := schema{}
		for k, v := range s {
			if k != "description" {
				inner[k] = v
			}
		}
		out["anyOf"] = []schema{inner, {"type": "null"}}
	}
	return out
}

func ref(name string) schema { return schema{"$ref": "#/$defs/" + name} }

func (s schema) say(description string) schema {
	out := schema{"description": description}
	for k, v := range s {
		out[k] = v
	}
	return out
}

func words(list ...string) schema { return schema{"enum": list} }
func listOf(s schema) schema      { return schema{"type": "array", "items": s} }
func mapOf(s schema) schema       { return schema{"type": "object", "additionalProperties": s} }

// Patterns of ids; see CheckNodeID and CheckDataID.
const (
	nodeIDPattern = `^[A-Za-z0-9_-][A-Za-z0-9_.-]*$`
	dataIDPattern = `^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$`
)

var (
	textSchema    = schema{"type": "string"}
	filledSchema  = schema{"type": "string", "pattern": `\S`}
	scalarSchema  = schema{"type": []string{"string", "number", "boolean"}}
	boolSchema    = schema{"type": "boolean"}
	secondsSchema = schema{"type": "number", "minimum": 0}
	dataIDSchema  = schema{"type": "string", "pattern": dataIDPattern, "maxLength": maxIDLength}
	sizeSchema    = schema{"anyOf": []schema{{"type": "integer", "minimum": 0}, {"type": "string", "pattern": `^\s*[0-9]+(\.[0-9]+)?\s*([bB]|[kKmMgG][bB]?)?\s*$`}}}
	levelSchema   = schema{"type": "string", "pattern": `^([eE][rR][rR][oO][rR]|[wW][aA][rR][nN]|[iI][nN][fF][oO]|[dD][eE][bB][uU][gG]|[tT][rR][aA][cC][eE]|[sS][tT][dD][oO][uU][tT])$`}

	rootKeys = map[string]schema{
		"nodes":                  listOf(ref("node")).say("the nodes of the dataflow"),
		"health_check_interval":  {"type": "number", "exclusiveMinimum": 0, "description": "seconds between health checks (default 5)"},
		"strict_types":           boolSchema.say("findings about types are errors"),
		"type_rules":             listOf(mapping(typeRuleFields, map[string]schema{"from": filledSchema, "to": filledSchema}, "from", "to")).say("which type may flow into which other one"),
		"exit_when_nodes_finish": boolSchema.say("timers alone keep no node running"),
		"env":                    ref("env").say("environment variables of all nodes"),
		"deploy":                 ref("deploy").say("where nodes run that do not say it themselves"),
		"_unstable_deploy":       ref("deploy").say("older name of deploy"),
		"debug":                  ref("debug"),
		"_unstable_debug":        ref("debug").say("older name of debug"),
	}
	debugKeys = map[string]schema{
		"publish_all_messages_to_zenoh": boolSchema.say("let every topic be inspected"),
		"enable_debug_inspection":       boolSchema.say("let every topic be inspected"),
	}
	deployKeys = map[string]schema{
		"machine":     filledSchema.say("machine or daemon id"),
		"working_dir": filledSchema.say("working directory on the machine"),
		"labels":      mapOf(scalarSchema).say("labels that a daemon must have"),
		"distribute":  words(string(DistributeLocal), string(DistributeSCP), string(DistributeHTTP)).say("how a built program reaches its machine"),
	}
	portKeys = map[string]schema{
		"inputs":          mapOf(ref("input")).say("input id: source, or a mapping with options"),
		"outputs":         listOf(dataIDSchema).say("ids of the outputs"),
		"input_types":     mapOf(filledSchema).say("input id: type, such as std/media/v1/Image"),
		"output_types":    mapOf(filledSchema).say("output id: type, such as std/media/v1/Image"),
		"output_framing":  mapOf(words("raw", "arrow-ipc")).say("output id: raw or arrow-ipc"),
		"output_metadata": mapOf(listOf(textSchema)).say("output id: metadata keys of every message"),
		"pattern":         {"type": "string", "examples": types.Patterns(), "description": "communication pattern"},
	}
	loggingKeys = map[string]schema{
		"send_stdout_as":    dataIDSchema.say("output that gets the lines of standard output"),
		"send_logs_as":      dataIDSchema.say("output that gets the log lines"),
		"min_log_level":     levelSchema.say("lowest level that is kept: error, warn, info, debug, trace, stdout"),
		"max_log_size":      sizeSchema.say("size at which the log file is rotated, such as 50MB"),
		"max_rotated_files": {"type": "integer", "minimum": 1, "maximum": 100, "description": "rotated log files that are kept (default 5)"},
	}
	nodeKeys = merge(portKeys, loggingKeys, map[string]schema{
		"id":                      {"type": "string", "pattern": nodeIDPattern, "not": schema{"const": "dora"}, "maxLength": maxIDLength, "description": "unique id of the node"},
		"name":                    textSchema.say("name for people"),
		"description":             textSchema.say("what the node does"),
		"path":                    filledSchema.say("program, Python script, URL, or: dynamic, shell"),
		"path_sha256":             {"type": "string", "pattern": "^[0-9a-fA-F]{64}$", "description": "checksum of a path that is a URL"},
		"args":                    textSchema.say("command line arguments"),
		"env":                     ref("env").say("environment variables"),
		"git":                     filledSchema.say("repository that holds the node"),
		"branch":                  filledSchema.say("branch of git"),
		"tag":                     filledSchema.say("tag of git"),
		"rev":                     filledSchema.say("commit of git"),
		"hub":                     filledSchema.say("package: [namespace/]name@version"),
		"module":                  filledSchema.say("module file that this node stands for"),
		"params":                  mapOf(scalarSchema).say("parameters of the module"),
		"build":                   textSchema.say("build commands, one per line"),
		"operator":                ref("operator").say("the one operator of this node"),
		"operators":               {"type": "array", "items": ref("operator"), "minItems": 1, "description": "operators that share one process"},
		"ros2":                    ref("ros2").say("bridge to ROS 2"),
		"restart_policy":          words(string(RestartNever), string(RestartOnFailure), string(RestartAlways)).say("when the node is started again"),
		"max_restarts":            {"type": "integer", "minimum": 0, "maximum": 4294967295, "description": "0: no bound"},
		"restart_delay":           secondsSchema.say("seconds before the first restart, doubled each time"),
		"max_restart_delay":       secondsSchema.say("cap of the delay in seconds"),
		"restart_window":          secondsSchema.say("seconds after which restarts are counted anew"),
		"health_check_timeout":    secondsSchema.say("seconds of silence after which the node is killed"),
		"startup_timeout":         secondsSchema.say("seconds within which the node must be ready"),
		"finish_grace_secs":       secondsSchema.say("seconds to work on when all others have finished"),
		"shared_memory_pool_size": sizeSchema.say("shared memory of the node"),
		"cpu_affinity":            listOf(schema{"type": "integer", "minimum": 0, "maximum": 65535}).say("cores that the node may use"),
		"deploy":                  ref("deploy").say("where the node runs"),
		"_unstable_deploy":        ref("deploy").say("older name of deploy"),
	})
	operatorKeys = merge(portKeys, loggingKeys, map[string]schema{
		"id":             {"type": "string", "pattern": "^[A-Za-z0-9_.-]+$", "description": "unique among the operators of the node"},
		"name":           textSchema,
		"description":    textSchema,
		"python":         {"anyOf": []schema{filledSchema, mapping(pythonFields, map[string]schema{"source": filledSchema, "conda_env": filledSchema}, "source")}, "description": "Python file with a class Operator"},
		"shared-library": filledSchema.say("library, without lib and .so"),
		"wasm":           filledSchema,
		"build":          textSchema.say("build commands, one per line"),
	})
	ros2Keys = map[string]schema{
		"transport": {"type": "object", "additionalProperties": false, "properties": schema{"kind": words("dds", "zenoh"), "compatibility": words("humble", "rep2016"), "config_uri": filledSchema}},
		"topic":     filledSchema, "message_type": filledSchema, "direction": words("subscribe", "publish"),
		"topics": listOf(mapping(ros2TopicFields, map[string]schema{"topic": filledSchema, "message_type": filledSchema, "direction": words("subscribe", "publish"),
			"output": dataIDSchema, "input": dataIDSchema, "qos": ref("qos")})),
		"service": filledSchema, "service_type": filledSchema, "action": filledSchema, "action_type": filledSchema, "role": words("client", "server"),
		"qos": ref("qos"), "namespace": filledSchema, "node_name": filledSchema,
	}
	qosKeys = map[string]schema{
		"reliable": boolSchema, "durability": words("volatile", "transient_local"), "liveliness": words("automatic", "manual_by_participant", "manual_by_topic"),
		"lease_duration": secondsSchema, "max_blocking_time": secondsSchema, "keep_last": {"type": "integer", "minimum": 1, "maximum": 10000}, "keep_all": boolSchema,
	}
)

func merge(tables ...map[string]schema) map[string]schema {
	out := map[string]schema{}
	for _, t := range tables {
		for k, v := range t {
			out[k] = v
		}
	}
	return out
}

func inputSchema() schema {
	source := schema{"type": "string", "pattern": "/", "description": "node/output, node/operator/output, dora/timer/<unit>/<value> or dora/logs[/<level>[/<node>]]"}
	return schema{"anyOf": []schema{source, mapping(inputFields, map[string]schema{
		"source":        source,
		"queue_size":    {"type": "integer", "minimum": 0, "maximum": 2147483647, "description": "messages that are kept (default 10)"},
		"queue_policy":  words(string(DropOldest), string(Backpressure)).say("what a full queue does"),
		"input_timeout": secondsSchema.say("seconds of silence after which the input counts as closed"),
	}, "source")}}
}

func envSchema() schema {
	return mapOf(schema{"anyOf": []schema{scalarSchema, {"type": "object", "additionalProperties": false, "required": []string{hostEnvKey},
		"properties": schema{hostEnvKey: filledSchema.say("variable of the machine that the node runs on")}}}})
}
