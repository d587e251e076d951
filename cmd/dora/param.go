package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/dora-go/dora/actors"
	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/transport/ws"
	"github.com/spf13/cobra"
)

func newParamCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "param", Short: "Read and change the parameters of running nodes", Args: cobra.NoArgs,
		Long: `Read and change the parameters of nodes. They are kept by the coordinator, told to the node
while it runs and after every restart of it, and carried over by ` + "`dora restart`" + `.`}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(newParamListCmd(), newParamGetCmd(), newParamSetCmd(), newParamDeleteCmd())
	return cmd
}

// params are the parameters of a node.
func (f *flow) params(cmd *cobra.Command, node string) (map[string]json.RawMessage, error) {
	if f.run != nil && !f.run.live {
		return nil, fmt.Errorf("dataflow %s is not running any more (%s): a run keeps its parameters as long as it lives", f.UUID, f.Status)
	}
	var params map[string]json.RawMessage
	err := f.call(cmd.Context(), ws.MethodParams, ws.DataflowRef{Dataflow: f.UUID, Node: node}, &params)
	return params, err
}

func newParamListCmd() *cobra.Command {
	var d dataflowFlag
	format := choiceFlag{value: "table", choices: []string{"table", "json"}}
	cmd := &cobra.Command{
		Use:   "list <NODE>",
		Short: "List all parameters of a node",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := d.find(cmd, choice{verb: "list the parameters of", ended: true})
			if err != nil {
				return err
			}
			params, err := f.params(cmd, args[0])
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if format.value == "json" {
				raw, err := json.MarshalIndent(params, "", "  ")
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(out, "%s\n", raw)
				return err
			}
			if len(params) == 0 {
				_, err := fmt.Fprintf(out, "No parameters set for node `%s`\n", args[0])
				return err
			}
			fmt.Fprintf(out, "Parameters for node `%s`:\n", args[0])
			for _, key := range slices.Sorted(maps.Keys(params)) {
				if _, err := fmt.Fprintf(out, "  %s = %s\n", printable(key), printable(string(params[key]))); err != nil {
					return err
				}
			}
			return nil
		},
	}
	d.addFlags(cmd)
	cmd.Flags().VarP(&format, "format", "f", "output format: table or json (one object)")
	return cmd
}

func newParamGetCmd() *cobra.Command {
	var d dataflowFlag
	cmd := &cobra.Command{
		Use:   "get <NODE> <KEY>",
		Short: "Print the value of one parameter, as JSON",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := d.find(cmd, choice{verb: "read a parameter of", ended: true})
			if err != nil {
				return err
			}
			params, err := f.params(cmd, args[0])
			if err != nil {
				return err
			}
			value, ok := params[args[1]]
			if !ok {
				hint := ""
				if near := dataflow.Nearest(args[1], slices.Sorted(maps.Keys(params))); near != "" {
					hint = fmt.Sprintf("; did you mean %q?", near)
				}
				return fmt.Errorf("param not found: %s%s\n  hint: `dora param list -d %s %s` shows what is set", args[1], hint, f.label(), args[0])
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", value)
			return err
		},
	}
	d.addFlags(cmd)
	return cmd
}

func newParamSetCmd() *cobra.Command {
	var d dataflowFlag
	cmd := &cobra.Command{
		Use:         "set <NODE> <KEY> <VALUE>",
		Short:       "Set a parameter; the value is JSON",
		Example:     "  dora param set -d my-app sensor threshold 42\n  dora param set -d my-app camera resolution '\"1080p\"'\n  dora param set -d my-app arm offset -5",
		Args:        cobra.ExactArgs(3),
		Annotations: map[string]string{takesNegative: ""},
		RunE: func(cmd *cobra.Command, args []string) error {
			key, value, err := paramArgs(args[1], unmarked(args[2]))
			if err != nil {
				return err
			}
			f, err := d.find(cmd, choice{verb: "change a parameter of", changes: true})
			if err != nil {
				return err
			}
			var o ws.Ordered
			if err := f.call(cmd.Context(), ws.MethodParamSet, ws.Param{Dataflow: f.UUID, Node: args[0], Key: key, Value: value}, &o); err != nil {
				return err
			}
			tellLate(o)
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Set `%s` = %s on node `%s`\n", printable(key), printable(string(value)), args[0])
			return err
		},
	}
	d.addFlags(cmd)
	return cmd
}

// paramArgs checks key and value before anybody is asked.
func paramArgs(key, text string) (string, json.RawMessage, error) {
	var value bytes.Buffer
	if err := json.Compact(&value, []byte(text)); err != nil {
		hint := ""
		if quoted, qerr := json.Marshal(text); qerr == nil && !strings.ContainsAny(text, `{["`) {
			hint = fmt.Sprintf("\n  hint: a string needs its quotes: '%s'", quoted)
		}
		return "", nil, fmt.Errorf("the value of %s is not JSON: %w%s", key, err, hint)
	}
	if err := actors.CheckParam(key, value.Bytes()); err != nil {
		return "", nil, err
	}
	return key, value.Bytes(), nil
}

// tellLate: the parameter is kept, and told to the node later.
func tellLate(o ws.Ordered) {
	if !o.Delivered {
		fmt.Fprintf(os.Stderr, "the daemon of machine %s is away: the node is told when it is back\n", o.Machine)
	}
}

func newParamDeleteCmd() *cobra.Command {
	var d dataflowFlag
	cmd := &cobra.Command{
		Use:   "delete <NODE> <KEY>",
		Short: "Delete a parameter",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := d.find(cmd, choice{verb: "change a parameter of", changes: true})
			if err != nil {
				return err
			}
			var o ws.ParamDeleted
			if err := f.call(cmd.Context(), ws.MethodParamDelete, ws.Param{Dataflow: f.UUID, Node: args[0], Key: args[1]}, &o); err != nil {
				return err
			}
			text := "Deleted `%s` from node `%s`\n"
			if !o.Existed {
				text = "There was no `%s` on node `%s`\n"
			} else {
				tellLate(o.Ordered)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), text, printable(args[1]), args[0])
			return err
		},
	}
	d.addFlags(cmd)
	return cmd
}

// takesNegative marks commands one of whose arguments may be a negative number, which the
// flag parser would take for a flag.
const takesNegative = "negative"

// negative is what a JSON number below zero begins with, or a list of arguments is about.
var negative = regexp.MustCompile(`^-[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// negativeMark stands before a negative number on its way through the flag parser. No
// argument of a process has it.
const negativeMark = "\x00"

// markNegative marks negative numbers in the arguments of commands that take them.
func markNegative(root *cobra.Command, args []string) []string {
	cmd, _, err := root.Find(args)
	if err != nil {
		return args
	}
	if _, ok := cmd.Annotations[takesNegative]; !ok {
		return args
	}
	out := slices.Clone(args)
	for i, a := range out {
		if a == "--" {
			break
		}
		if negative.MatchString(a) {
			out[i] = negativeMark + a
		}
	}
	return out
}

func unmarked(arg string) string { return strings.TrimPrefix(arg, negativeMark) }
