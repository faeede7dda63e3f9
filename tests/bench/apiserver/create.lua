-- Creates ConfigMaps with bodies of 500 bytes, each with a name of its own. Argument: a word for the names.
local threads = 0

function setup(thread)
  thread:set("id", threads)
  threads = threads + 1
end

function init(arguments)
  word = arguments[1]
  number = 0
end

local head = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"'
local headers = { ["Authorization"] = "Bearer bench-token", ["Content-Type"] = "application/json" }

function request()
  number = number + 1
  local name = word .. "-" .. id .. "-" .. number
  local filled = 500 - #head - #name - #'"},"data":{"text":""}}'
  local body = head .. name .. '"},"data":{"text":"' .. string.rep("x", filled) .. '"}}'
  return wrk.format("POST", "/api/v1/namespaces/default/configmaps", headers, body)
end
