"""Contract 3.2: hooks may be static."""


class Filter:
    @staticmethod
    def request(body, __id__):
        body["x_static"] = __id__
        return body
