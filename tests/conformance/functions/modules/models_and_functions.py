"""Contract 9.1: `Models.get_model_by_id`, `Functions.get_function_by_id`."""
import json

from open_webui.models.functions import Functions
from open_webui.models.models import ModelForm, Models


class Pipe:
    async def pipe(self, body, __id__):
        function = await Functions.get_function_by_id(__id__)
        return json.dumps(
            [
                await Models.get_model_by_id("nowhere"),
                function.id,
                function.type,
                await Functions.get_function_by_id("nowhere"),
            ]
        )
