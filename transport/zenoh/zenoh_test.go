package zenoh

import (
	"encoding/json"
	"testing"
)

// Locators are data, not configuration: what is in them stays in its string.
func TestConfigurationOfASession(t *testing.T) {
	hostile := `tcp/127.0.0.1:1"],"mode":"router`
	var got struct {
		Mode            string
		Listen, Connect struct{ Endpoints []string }
		Scouting        map[string]struct{ Enabled bool }
	}
	if err := json.Unmarshal([]byte(Options{Connect: []string{hostile}}.config()), &got); err != nil {
		t.Fatal(err)
	}
	if got.Mode != "peer" || len(got.Listen.Endpoints) != 0 || len(got.Connect.Endpoints) != 1 || got.Connect.Endpoints[0] != hostile {
		t.Errorf("configuration is %+v", got)
	}
	for _, way := range []string{"multicast", "gossip"} {
		if way, ok := got.Scouting[way]; !ok || way.Enabled {
			t.Errorf("%v is not switched off: %+v", way, got.Scouting)
		}
	}
}
