"""What a deployment needs beside the code: migrations, units, images and dashboards."""
