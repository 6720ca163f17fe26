package deploy_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const program = "/usr/local/bin/yaosu"

// knownSettings is what our unit files use, section by section: anything else may
// be a slip of the pen, which systemd would pass over with a warning.
var knownSettings = map[string][]string{
	"Unit": {"Description", "Wants", "After", "Conflicts"},
	"Service": {
		"DynamicUser", "EnvironmentFile", "Environment", "LoadCredential", "StateDirectory", "StateDirectoryMode",
		"ExecStart", "KillSignal", "KillMode", "TimeoutStopSec", "Restart", "RestartSec", "RestartPreventExitStatus", "LimitNOFILE",
		"NoNewPrivileges", "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "ProtectKernelTunables",
		"ProtectKernelModules", "ProtectControlGroups", "RestrictAddressFamilies", "RestrictSUIDSGID", "LockPersonality",
		"CapabilityBoundingSet", "UMask", "MemoryDenyWriteExecute",
	},
	"Install": {"WantedBy"},
}

// readUnit parses a unit file into "Section.Key".
func readUnit(text string) (map[string]string, error) {
	unit := map[string]string{}
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if name, ok := strings.CutPrefix(line, "["); ok {
			section = strings.TrimSuffix(name, "]")
			continue
		}
		key, value, found := strings.Cut(line, "=")
		if !found || !slices.Contains(knownSettings[section], key) {
			return nil, fmt.Errorf("[%s] does not know %q", section, line)
		}
		if _, twice := unit[section+"."+key]; twice {
			return nil, fmt.Errorf("[%s] has %s twice", section, key)
		}
		unit[section+"."+key] = value
	}
	return unit, nil
}

// readEnvFile parses an EnvironmentFile.
func readEnvFile(t *testing.T, file string) map[string]string {
	t.Helper()
	env := map[string]string{}
	for line := range strings.Lines(read(t, file)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, found := strings.Cut(line, "=")
		if !found {
			t.Fatalf("%s: %q sets nothing", file, line)
		}
		env[name] = value
	}
	return env
}

func TestUnitFilesStartWhatThereIs(t *testing.T) {
	files, err := filepath.Glob("systemd/*.service")
	if err != nil || len(files) != 5 {
		t.Fatalf("got %v, %v, want five unit files", files, err)
	}
	env := readEnvFile(t, "systemd/yaosu.env.example")
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			unit, err := readUnit(read(t, file))
			if err != nil {
				t.Fatal(err)
			}
			args := strings.Fields(unit["Service.ExecStart"])
			if len(args) < 2 || args[0] != program {
				t.Fatalf("ExecStart: got %q, want %s and a verb", args, program)
			}
			own := map[string]string{}
			if name, value, found := strings.Cut(unit["Service.Environment"], "="); found {
				own[name] = value
			}
			switch unit["Service.EnvironmentFile"] {
			case "":
			case "/etc/yaosu/yaosu.env":
				for name, value := range env {
					// One file for all parts: what not each looks at may be in it.
					if args[1] != "detect" || name != "YAOSU_STREAM_REPLICAS" {
						own[name] = value
					}
				}
			case "/etc/yaosu/scanner.env":
				own = readEnvFile(t, "systemd/scanner.env.example")
			default:
				t.Errorf("EnvironmentFile: got %q, want the one there is an example of", unit["Service.EnvironmentFile"])
			}
			checkCommand(t, args[1:], own)
			for _, arg := range args {
				if name, found := strings.CutPrefix(arg, "${CREDENTIALS_DIRECTORY}/"); found {
					if !strings.HasPrefix(unit["Service.LoadCredential"], name+":") {
						t.Errorf("%s is not loaded: got LoadCredential=%s", arg, unit["Service.LoadCredential"])
					}
				}
				if dir, found := strings.CutPrefix(arg, "/var/lib/"); found && unit["Service.StateDirectory"] != dir {
					t.Errorf("%s cannot be written: got StateDirectory=%s", arg, unit["Service.StateDirectory"])
				}
			}
			for _, hardening := range []string{"NoNewPrivileges", "ProtectSystem", "DynamicUser", "CapabilityBoundingSet"} {
				if _, ok := unit["Service."+hardening]; !ok {
					t.Errorf("no %s", hardening)
				}
			}
		})
	}
}
