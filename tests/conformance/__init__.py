"""The function contract sentence by sentence: one function file for each, called over HTTP on one server.

`functions/<section>/` has the files, named for what they show, with settings beside them; `test_<section>.py` says
which sentence of which section each of them shows, and where fnsync differs on purpose (docs/compat.md has reasons).

Sentences without a test here, and why:

1.1, 1.4, 1.8  what is installed when, and by whom: environments are in test_environments and test_packages
1.4            commas inside of requirements: test_frontmatter
1.7            entries of old versions in sys.modules: a reload is a new process
1.10           the Functions API: test_functions_replay, test_functions_api, test_versions_api
2.1            how often `pipes` is called: test_models
2.2 to 2.5     the session path: there are no sockets, stored chats, presets or tools of the server's own
2.6            the routes for tasks: a chat service has them, and says of them in `metadata`
3.1, 3.2       what presets attach, and further rounds of tools: there are neither; `models` in settings attaches
3.5            what is written of outlets to stored chats; `/api/chat/completed` is in test_wire_replay
5              events of what fnsync does not have
6.1            encryption: test_valves_api; 6.2, 6.3 stored values that fit no more: test_valves
7.3            tools of the client: test_events; OAuth tokens: there are none
8.1            what browsers make of events, and what is written of them to stored chats
8.2            limits of time: test_listening
9.1            the methods that hardly anyone calls: test_compat
10.1, 10.3     a folder of a Pipelines server with its valves.json: test_importing
10.4           uploads, additions, deletions, reloads: test_pipelines, test_pipelines_replay
10.5           what Open WebUI calls: test_open_webui_client
"""
