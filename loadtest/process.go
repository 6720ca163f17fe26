package loadtest

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Process is what one process of the system takes, as the kernel counts it.
type Process struct {
	Role string
	Pid  int    // 0 when it is not known
	Why  string // it is not known
	RSS  int64  // resident now, bytes
	Peak int64  // the most that was resident since it was started, bytes
	CPU  time.Duration
}

// Self is this process.
func Self(role string) Process { return byPid(role, os.Getpid()) }

// Listener is the process that listens at an address of this machine. Only Linux
// tells, and only of processes of the same user.
func Listener(role, address string) Process {
	u, err := url.Parse(address)
	if err != nil {
		return Process{Role: role, Why: "its address cannot be read"}
	}
	if !Local(address) {
		return Process{Role: role, Why: "it runs on another machine"}
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return Process{Role: role, Why: "its address names no port"}
	}
	socket := socketOf(port)
	if socket == "" {
		return Process{Role: role, Why: "this system does not tell who listens"}
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return Process{Role: role, Why: err.Error()}
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err != nil || to != socket {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(link, "/")[2]); err == nil {
			return byPid(role, pid)
		}
	}
	return Process{Role: role, Why: "it belongs to another user"}
}

// Local tells whether an address is of this machine's loopback.
func Local(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	// A DSN may name several.
	for one := range strings.SplitSeq(u.Host, ",") {
		host, _, err := net.SplitHostPort(one)
		if err != nil {
			host = strings.Trim(one, "[]")
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}

// socketOf names the socket that listens on a port as links in /proc do.
func socketOf(port int) string {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			const listening = "0A"
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == listening && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				return "socket:[" + f[9] + "]"
			}
		}
	}
	return ""
}

func byPid(role string, pid int) Process {
	p := Process{Role: role, Pid: pid}
	p.Measure()
	return p
}

// Measure looks again what the process takes.
func (p *Process) Measure() {
	if p.Pid == 0 {
		return
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid))
	if err != nil {
		*p = Process{Role: p.Role, Why: "it has ended, or this system has no /proc"}
		return
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch {
		case err != nil:
		case name == "VmRSS":
			p.RSS = kib << 10
		case name == "VmHWM":
			p.Peak = kib << 10
		}
	}
	p.CPU = cpuOf(p.Pid)
}

// cpuOf is what a process has used of the processors, 0 when it is not known.
func cpuOf(pid int) time.Duration {
	const clockTick = time.Second / 100 // on every Linux Go runs on
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name in brackets may hold blanks; utime and stime are the 12th and 13th
	// field after it.
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0
	}
	var ticks int64
	for _, field := range fields[11:13] {
		n, _ := strconv.ParseInt(field, 10, 64) // the kernel writes numbers
		ticks += n
	}
	return time.Duration(ticks) * clockTick
}
