package scripts

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// redisError is an answer of the store.
type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}

func TestAnswersThatWillChange(t *testing.T) {
	t.Parallel()
	for text, answer := range map[string]bool{
		"WRONGTYPE Operation against a key holding the wrong kind of value": true,
		"NOAUTH Authentication required.":                                   true,
		"OOM command not allowed when used memory > 'maxmemory'.":           false,
		"ERR max number of clients reached":                                 false,
		"NOREPLICAS Not enough good replicas to write.":                     false,
		"ERR Error running script (call to f_12): @user_script:12: @user_script: 12: -OOM command not allowed when used memory > 'maxmemory'. ": false,
		"ERR Error running script (call to f_12): @user_script:12: @user_script: 12: -READONLY You can't write against a read only replica. ":   false,
		"ERR Error running script (call to f_12): @user_script:12: WRONGTYPE Operation against a key holding the wrong kind of value":           true,
	} {
		var err redis.Error = redisError(text)
		require.Equal(t, answer, isAnswer(storeError("x", err)), text)
	}
}
