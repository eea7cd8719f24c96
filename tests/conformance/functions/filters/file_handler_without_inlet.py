"""Contract 3.3: it only counts where the filter has an inlet."""


class Filter:
    file_handler = True

    def outlet(self, body):
        return body
