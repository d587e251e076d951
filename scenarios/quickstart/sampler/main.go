// Command sampler measures the machine it runs on, once per tick of its timer.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/sensors"

	"github.com/dora-go/dora/nodeapi"
	"github.com/dora-go/dora/scenarios/quickstart/reading"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "sampler:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	node, err := nodeapi.Init(ctx)
	if err != nil {
		return err
	}
	// CPU usage is measured between two calls: this is the first.
	if _, err := cpu.PercentWithContext(ctx, 0, false); err != nil {
		return fmt.Errorf("read the CPU usage: %w", err)
	}
	warned := false
	for event := range node.Events() {
		if _, ok := event.(*nodeapi.Input); !ok {
			continue
		}
		readings, err := sample(ctx)
		if err != nil {
			return err
		}
		temperatures, err := temperature(ctx)
		if err != nil && !warned {
			warned = true
			node.Logger().Warn("no temperatures on this machine: " + err.Error())
		}
		if err := node.SendOutput("readings", reading.Array(append(readings, temperatures...))); err != nil {
			return err
		}
	}
	return node.Close()
}

func sample(ctx context.Context) ([]reading.Reading, error) {
	usage, err := cpu.PercentWithContext(ctx, 0, false)
	if err != nil || len(usage) == 0 {
		return nil, fmt.Errorf("read the CPU usage: %w", err)
	}
	avg, err := load.AvgWithContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the load: %w", err)
	}
	memory, err := mem.VirtualMemoryWithContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the memory usage: %w", err)
	}
	return []reading.Reading{
		{Name: "cpu", Value: usage[0], Unit: reading.Percent},
		{Name: "load", Value: avg.Load1, Unit: reading.Count},
		{Name: "memory", Value: memory.UsedPercent, Unit: reading.Percent},
		{Name: "used", Value: float64(memory.Used), Unit: reading.Bytes},
	}, nil
}

// temperature returns the hottest sensor; containers and virtual machines have none.
func temperature(ctx context.Context) ([]reading.Reading, error) {
	all, err := sensors.TemperaturesWithContext(ctx)
	var hottest *sensors.TemperatureStat
	for i := range all {
		// Sensors that are not wired up report zero or less.
		if t := &all[i]; t.Temperature > 0 && (hottest == nil || t.Temperature > hottest.Temperature) {
			hottest = t
		}
	}
	if hottest == nil {
		if err == nil {
			err = fmt.Errorf("%d sensors, none with a value", len(all))
		}
		return nil, err
	}
	return []reading.Reading{{Name: "hottest", Value: hottest.Temperature, Unit: reading.Celsius}}, nil
}
