package luabox_test

import (
	"context"
	"fmt"

	"github.com/voltageems/voltage/scripts/internal/luabox"
)

// A dry run: what would the script write?
func ExampleRun() {
	text := `
local n = redis.call('INCR', KEYS[1])
if n > tonumber(ARGV[1]) then redis.call('PUBLISH', 'news', 'enough') end
return { 'OK', n }`
	reply, calls, err := luabox.Run(context.Background(), luabox.Script{Name: "count", Text: text}, []string{"counter"}, []string{"0"}, nil)
	fmt.Println(reply, err)
	for _, c := range calls {
		if c.Writes {
			fmt.Println("line", c.Line, c.Args, "→", c.Reply)
		}
	}
	// Output:
	// [OK 1] <nil>
	// line 2 [INCR counter] → 1
	// line 3 [PUBLISH news enough] → 0
}
