package types

import "slices"

// patternKeys are the communication patterns, and the metadata keys that each implies
// for every output.
var patternKeys = []struct {
	name string
	keys []string
}{
	{"service-server", []string{"request_id"}},
	{"service-client", []string{"request_id"}},
	{"action-server", []string{"goal_id", "goal_status"}},
	{"action-client", []string{"goal_id"}},
}

// Patterns are the names that `pattern` may have.
func Patterns() []string {
	var names []string
	for _, p := range patternKeys {
		names = append(names, p.name)
	}
	return names
}

// PatternKeys are the metadata keys that a pattern implies for every output; nil for an
// unknown one.
func PatternKeys(pattern string) []string {
	for _, p := range patternKeys {
		if p.name == pattern {
			return slices.Clone(p.keys)
		}
	}
	return nil
}
