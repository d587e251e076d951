package nodewire

import (
	"fmt"
	"strings"
)

// OperatorConfig is one operator as its runtime is told of it. Exactly one of Python and
// SharedLibrary is set.
type OperatorConfig struct {
	ID            string
	Python        string // a script, from the runtime's working directory
	CondaEnv      string
	SharedLibrary string // without the prefix and the ending of the platform
}

// RuntimeYAML renders the configuration of an operator runtime for DORA_RUNTIME_CONFIG.
// The ports of c are called <operator>/<port>; each operator is given its own without
// the prefix.
func (c *Config) RuntimeYAML(operators []OperatorConfig) (string, error) {
	node, err := c.YAML()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("node:\n")
	for line := range strings.Lines(node) {
		b.WriteString("  ")
		b.WriteString(line)
	}
	list := make([]any, 0, len(operators))
	for _, o := range operators {
		def, err := c.operator(o)
		if err != nil {
			return "", err
		}
		list = append(list, def)
	}
	b.WriteString("operators: ")
	writeYAML(&b, list)
	b.WriteByte('\n')
	return b.String(), nil
}

func (c *Config) operator(o OperatorConfig) (map[string]any, error) {
	inputs, outputs := map[string]any{}, []any{}
	for i := range c.Inputs {
		if id, ok := strings.CutPrefix(c.Inputs[i].ID, o.ID+"/"); ok {
			inputs[id] = c.Inputs[i].definition()
		}
	}
	for _, out := range c.Outputs {
		if id, ok := strings.CutPrefix(out, o.ID+"/"); ok {
			outputs = append(outputs, id)
		}
	}
	def := map[string]any{"id": o.ID, "inputs": inputs, "outputs": outputs}
	switch {
	case o.Python != "" && o.CondaEnv != "":
		def["python"] = map[string]any{"source": o.Python, "conda_env": o.CondaEnv}
	case o.Python != "":
		def["python"] = o.Python
	case o.SharedLibrary != "":
		def["shared-library"] = o.SharedLibrary
	default:
		return nil, fmt.Errorf("operator %s of node %s has no code", o.ID, c.Node)
	}
	return def, nil
}
