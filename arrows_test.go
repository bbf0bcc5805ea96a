package voltage_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/voltageems/voltage"

// arrows says which packages of the module a package may import: the house in
// docs/design.md. The longest prefix that matches counts.
var arrows = map[string][]string{
	"model":                        {},
	"channel":                      {"model"},
	"channel/channeltest":          {"channel", "model"},
	"channel/modbus":               {"channel", "model"},
	"channel/modbus/server":        {},
	"channel/modbus/northbound":    {"channel", "channel/modbus", "channel/modbus/server", "model"},
	"channel/virtual":              {"channel", "model"},
	"channel/all":                  {"channel", "channel/modbus", "channel/modbus/northbound", "channel/virtual"},
	"scripts":                      {"model", "internal/reference", "scripts/internal/embedded", "scripts/internal/luabox", "scripts/internal/redisproc"},
	"scripts/storetest":            {"scripts/internal/embedded", "scripts/internal/redisproc"},
	"scripts/internal":             {"scripts/internal"},
	"scripts/internal/luaversions": {"scripts"},
	"internal/reference":           {},
	"calc":                         {"model"},
	"alarm":                        {"scripts", "model", "internal/follow"},
	"alarm/notify":                 {"scripts", "model", "channel"},
	"alarm/notify/exec":            {"alarm/notify", "channel", "model"},
	"alarm/notify/mqtt":            {"alarm/notify", "model"},
	"alarm/notify/smtp":            {"alarm/notify", "model"},
	"alarm/notify/text":            {"alarm/notify", "model"},
	"alarm/notify/webhook":         {"alarm/notify", "model"},
	"alarm/notify/all":             {"alarm/notify", "alarm/notify/exec", "alarm/notify/mqtt", "alarm/notify/smtp", "alarm/notify/text", "alarm/notify/webhook"},
	"alarm/alarmtest":              {"scripts", "model"},
	"rule":                         {"scripts", "model", "internal/follow"},
	"internal/follow":              {},
	"internal/licences":            {},
	"internal/runner":              {"scripts", "channel", "model"},
	"internal/api":                 {"internal/auth", "scripts", "model"},
	"internal/auth":                {"model"},
	"internal/simsite":             {"channel/modbus/server", "model"},
	"internal/demo":                {"internal/simsite", "channel", "channel/modbus", "channel/modbus/northbound", "channel/virtual", "model", "alarm", "rule"},
	"":                             {"internal/api", "internal/auth", "internal/runner", "internal/follow", "calc", "alarm", "alarm/notify", "rule", "scripts", "channel", "model"},
	"examples":                     {"*"},
}

// onlyHere names packages from outside that belong to one room.
var onlyHere = map[string]string{
	"github.com/redis/go-redis":       "scripts",
	"github.com/alicebob/miniredis":   "scripts",
	"github.com/yuin/gopher-lua":      "scripts/internal/luabox",
	"github.com/goburrow/modbus":      "channel/modbus",
	"github.com/goburrow/serial":      "channel/modbus",
	"github.com/wneessen/go-mail":     "alarm/notify/smtp",
	"github.com/eclipse/paho":         "alarm/notify/mqtt",
	"text/template":                   "alarm/notify/text", // 6 MB of firmware
	"html/template":                   "none",
	"github.com/coder/websocket":      "internal/api",
	"github.com/golang-jwt/jwt":       "internal/auth",
	"go.yaml.in/yaml":                 "",
	"github.com/stretchr/testify":     "none",
	"github.com/prometheus/client_go": "none",
}

func TestArrows(t *testing.T) {
	t.Parallel()
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		room := path.Dir(filepath.ToSlash(file))
		if room == "." {
			room = ""
		}
		for _, i := range f.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			if inner, ok := strings.CutPrefix(imported, module); ok {
				inner = strings.TrimPrefix(inner, "/")
				require.True(t, allowed(room, inner), "%s imports %s, against the arrows of docs/design.md", file, imported)
			}
			for outside, home := range onlyHere {
				if strings.HasPrefix(imported, outside) && !strings.HasPrefix(room, "examples") {
					ok := home == room || home != "" && strings.HasPrefix(room, home+"/")
					require.True(t, ok, "%s imports %s, which belongs to %q alone", file, imported, home)
				}
			}
		}
		return nil
	})
	require.NoError(t, err)
}

func allowed(room, imported string) bool {
	for at := room; ; at = path.Dir(at) {
		if at == "." {
			at = ""
		}
		if list, ok := arrows[at]; ok && (at != "" || room == "") {
			for _, a := range list {
				if a == "*" || a == imported || a != "" && strings.HasPrefix(imported, a+"/") && a == "scripts/internal" {
					return true
				}
			}
			return false
		}
		if at == "" {
			return false
		}
	}
}
