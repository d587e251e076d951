package actors

import (
	"strconv"
	"strings"
)

// orderKey names an order of a coordinator: the id of its journal, and the number of the
// order in the stream of its dataflow. It stands as the command in the envelope of
// whatever the order led to, so that an order that comes again is recognised.
func orderKey(coordinator string, number uint64) string {
	return coordinator + ":" + strconv.FormatUint(number, 10)
}

func splitOrder(key string) (coordinator string, number uint64, ok bool) {
	coordinator, text, found := strings.Cut(key, ":")
	number, err := strconv.ParseUint(text, 10, 64)
	return coordinator, number, found && err == nil
}

// coveredOrder says that an order was worked off when last was the last one recorded. Orders
// of a dataflow are sent one after the other, so all before last were, too.
func coveredOrder(last, key string) bool {
	if last == "" || key == "" {
		return false
	}
	from, number, ok := splitOrder(key)
	lastFrom, lastNumber, lastOK := splitOrder(last)
	return ok && lastOK && from == lastFrom && number <= lastNumber
}

// laterOrder is what to remember after a record with this command.
func laterOrder(last, command string) string {
	if _, _, ok := splitOrder(command); !ok || coveredOrder(last, command) {
		return last
	}
	return command
}
