package proc

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process takes, as the kernel counts it.
type Usage struct {
	RSS     int64         // resident now, bytes
	PeakRSS int64         // the most that was resident, bytes
	CPU     time.Duration // user and system, since it was started
}

// clockTick is the unit of times in /proc on every Linux Go runs on.
const clockTick = time.Second / 100

// UsageOf reads what the process takes: a child of ours, or the engine.
func UsageOf(pid int) (Usage, error) {
	var u Usage
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, fmt.Errorf("read what process %d takes: %w", pid, err)
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch {
		case err != nil:
		case name == "VmRSS":
			u.RSS = kib << 10
		case name == "VmHWM":
			u.PeakRSS = kib << 10
		}
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, fmt.Errorf("read what process %d takes: %w", pid, err)
	}
	// The name in brackets may hold blanks; the fields after it are counted from the
	// state, and utime and stime are the 12th and 13th.
	at := strings.LastIndex(string(stat), ") ")
	fields := strings.Fields(string(stat[at+2:]))
	if at < 0 || len(fields) < 13 {
		return u, fmt.Errorf("read what process %d takes: /proc/%[1]d/stat has another form", pid)
	}
	for _, field := range fields[11:13] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return u, fmt.Errorf("read what process %d takes: %w", pid, err)
		}
		u.CPU += time.Duration(ticks) * clockTick
	}
	return u, nil
}
